//! Choosing and describing processes.
