//! Trains a float graph.
