"""Pages for a browser, whole in one file: the report of pictures and the interactive viewer."""
