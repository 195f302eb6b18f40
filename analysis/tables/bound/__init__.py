"""Tables of the bound: as they are read, as frames to be drawn, and what they say of it."""
