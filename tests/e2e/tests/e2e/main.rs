//! The end to end tests, in one program: see the README.

#![forbid(unsafe_code)]

mod admission;
mod drain;
mod gates;
mod gone;
mod helm;
mod landing;
mod main_path;
mod node;
mod places;
mod rest;
mod survival;
mod wrong;
