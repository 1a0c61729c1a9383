"""The life of the process: start, loop, drain, stop; signals; the only owner of threads and clocks."""
