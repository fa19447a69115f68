//! The end to end tests, in one program: see the README.

#![forbid(unsafe_code)]

mod admission;
mod helm;
mod main_path;
mod node;
mod rest;
mod survival;
mod wrong;
