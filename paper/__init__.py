"""What puts the paper beside our runs: figures, the cells of the laptop-size paper, and what they say of its claims."""
