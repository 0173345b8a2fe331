//! Every document that crosses a process boundary.
//!
//! `whisk` holds OpenWhisk's messages and documents, `ffs` our own: the config layer, the control
//! socket, the annotation. serde and nothing else; what a document *means* is its reader's business.
#![forbid(unsafe_code)]

pub mod decode;
pub mod json;
pub mod id;
pub mod unit;
pub mod whisk;
pub mod ffs;
