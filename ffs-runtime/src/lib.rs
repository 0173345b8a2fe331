//! What runs inside a container: OpenWhisk's action proxy, the supervisor of one Python process,
//! and, in a pipeline, one lane's end of the control socket.
//!
//! ```text
//!  invoker ── POST /init, /run ──►  proxy ──┐                           ┌─ logs ─► stdout, stderr
//!                                           ├─►  child ══ socket pair ══╡
//!  invoker ══ control (a lane only) ═► life ┘    FluidFaaS.child        └─ rings ═══ other lanes
//! ```
//!
//! Without a config layer it is an ordinary action container. With one it is lane
//! `s<stage>l<lane>` of an instance; the head `s0l0` answers `/init` and `/run` too. What a lane
//! computes, and how frames travel, is the business of the Python package.
#![forbid(unsafe_code)]

pub mod settings;
pub mod life;
pub mod proxy;
pub mod control;
pub mod config_layer;
pub mod child;
pub mod logs;
pub mod sandbox;
