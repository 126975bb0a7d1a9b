"""What the scripts share: protocols and jobs on one side, results and tables on the other."""
