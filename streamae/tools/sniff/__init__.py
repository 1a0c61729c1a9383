"""Look at a broker and propose the configuration that would watch it."""
