//! Clients and servers of single sockets, which say exactly which bytes pass.
