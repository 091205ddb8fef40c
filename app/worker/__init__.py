"""The worker's side of synchronization: pull, push and the loop that runs them. It knows no HTTP framework."""
