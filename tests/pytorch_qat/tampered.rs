//! No comparison overlooks a changed number.
