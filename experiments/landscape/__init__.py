"""The loss of a network over planes through its weights: geometry, evaluation, measures, pictures."""
