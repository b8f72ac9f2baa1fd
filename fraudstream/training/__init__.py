"""The offline ends: replay of files, training sets as of an instant, training."""
