"""The files of a recording, each kind read message by message, damaged ones up to the damage."""
