"""Data sets of images: imported, packed, read, or drawn from fonts."""
