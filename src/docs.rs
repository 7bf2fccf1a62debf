//! Pages that say more than the items do. The repository has them in `docs/`.
//!
//! `conformance` is there with the feature `testing`, `c` with `capi`.

// A page defines its links at its end, as files. The definitions before it here come first, and so they hold: they lead to modules.

#[cfg(feature = "capi")]
#[doc = "[header]: crate::capi\n[example]: #the-example\n[residual]: #the-second-example\n"]
#[doc = "[two_outputs]: #the-third-example\n"]
#[doc = "[numbers]: crate::docs::numbers\n[denormals]: crate::docs::numbers#denormals\n[threads]: crate::Threads\n"]
#[doc = include_str!("../docs/c.md")]
#[doc = concat!("## The example\n\n```c\n", include_str!("../examples/c/separable.c"), "```\n")]
#[doc = concat!("## The second example\n\n```c\n", include_str!("../examples/c/residual_nchw.c"), "```\n")]
#[doc = concat!("## The third example\n\n```c\n", include_str!("../examples/c/two_outputs.c"), "```\n")]
pub mod c {}

#[cfg(feature = "testing")]
#[doc = "[numbers]: crate::docs::numbers\n"]
#[doc = include_str!("../docs/conformance.md")]
pub mod conformance {}

#[cfg_attr(feature = "testing", doc = "[bound]: crate::docs::conformance#the-bound\n")]
#[cfg_attr(not(feature = "testing"), doc = "[bound]: crate::docs\n")]
#[doc = include_str!("../docs/numbers.md")]
pub mod numbers {}
