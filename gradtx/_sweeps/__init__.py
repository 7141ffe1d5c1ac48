"""Many values of the hyperparameters at once: batches of transformations, and trainings of all of them."""
