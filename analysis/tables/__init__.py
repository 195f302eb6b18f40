"""Reading what studies and measurements wrote, and the numbers printed in the paper."""
