"""The one training loop, what it trains, and how its networks are measured."""
