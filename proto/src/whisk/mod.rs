//! OpenWhisk's messages and documents; each file names the Scala file that it mirrors.
//!
//! Reading: unknown members are ignored, an optional member may be absent or `null`, every other one
//! has to be there (M-01). Writing: what is absent is left out, and members come in the order in
//! which OpenWhisk writes them, which is that of the alphabet (M-02). Ids such as M-05 are those of
//! the interoperability contract that `README.md` names.

pub mod name;
pub mod version;
pub mod size;
pub mod transid;
pub mod parameter;
pub mod limits;
pub mod identity;
pub mod instance;
pub mod activation_message;
pub mod activation;
pub mod record;
pub mod acknowledgement;
pub mod ping;
pub mod event;
pub mod exec;
pub mod action;
pub mod action_proxy;
pub mod view;
pub mod subject;
