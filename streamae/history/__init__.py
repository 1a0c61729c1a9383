"""The past as series: files, recordings, the journal, databases."""
