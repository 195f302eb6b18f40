"""What the machine offers: processes, disk, and which code is running."""
