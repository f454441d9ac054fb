"""What the command line does with a recipe: run folders, training, evaluation, the report."""
