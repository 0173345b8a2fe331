//! How a function is split over free slices: each step by examples, then the laws that hold for
//! every graph, profile and machine.

#![allow(clippy::unwrap_used)] // in tests and in what they are made of, a panic is the report

mod given;
mod dag;
mod profile;
mod free;
mod partition;
mod ranking;
mod placement;
mod batch;
mod assignment;
mod paper;
mod laws;
