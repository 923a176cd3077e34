"""What the results of a matrix say: tables beside published numbers, and two folders of results compared."""
