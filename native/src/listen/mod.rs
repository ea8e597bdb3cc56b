//! Sockets to bodies.
