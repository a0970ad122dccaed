"""Ground-truth paste: objects of other frames, with their points and pictures, set into a frame."""
