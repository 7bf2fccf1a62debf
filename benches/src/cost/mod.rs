//! The cost lab: what separability buys on this machine, measured, drawn and written down.
//!
//! [`run`] measures what [`sections`] lists, and makes a [`report::Report`] of it, which is written as JSON and CSV ([`report`]),
//! as plots ([`plots`]), and as a page ([`page`]); [`compare`] holds it against an earlier one.

pub mod compare;
pub mod docs;
pub mod im2col;
pub mod page;
pub mod plots;
pub mod report;
pub mod run;
pub mod sections;
pub mod tables;
