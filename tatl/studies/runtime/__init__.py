"""What networks and runs cost: parameters, memory, time, disk."""
