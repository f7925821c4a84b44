//! The kernel/user ABI.
#![no_std]
