//! What only the real server can show.

mod apply;
pub(crate) mod cluster;
mod contract;
mod ddl;
mod dead_letters;
mod enrolment;
mod exports;
mod faults;
mod freshness;
mod gaps;
mod history;
mod hostile;
mod leases;
mod letters;
mod lifecycle;
mod mend;
mod moving;
mod rig;
mod round_trip;
mod rules;
mod sweep;
mod values;
mod words;
