//! Applies a sealed batch: records whose data the database refuses become dead letters in the same
//! transaction that applies the rest.
//!
//! All that it needs is a [`Sink`]. [`page`] maps what was read, [`batch`] adds pages up and seals them,
//! [`mod@bisect`] finds what the database refuses.

pub mod batch;
pub mod bisect;
pub mod letters;
pub mod page;
pub mod ports;

use crate::error::{Error, ErrorKind, Result};
use batch::Sealed;
use bisect::Bisect;
use ports::{Applied, Sink, Unit};

/// Applies the batch; records with refused data become dead letters instead.
///
/// Each round removes at least one record, so there are at most as many rounds as refused records: removing
/// a change may restore an earlier one of the same key, which may be refused too.
///
/// # Errors
/// As the sink answers, but for `Data`: `Unknown` where it refuses the data of a batch, yet of none of its
/// rows.
pub async fn apply_whole<K: Sink>(sink: &K, sealed: &mut Sealed) -> Result<Applied> {
    loop {
        let error = match sink.apply(&sealed.batch).await {
            Ok(applied) => return Ok(applied),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::Data {
            return Err(error);
        }
        let refused = bisect(sink, sealed).await?;
        if refused.is_empty() {
            let what = "the target refuses the data of a batch, but of none of its rows";
            return Err(Error::new(ErrorKind::Unknown, what).with_source(error));
        }
        sealed.refuse(&refused);
    }
}

async fn bisect<K: Sink>(sink: &K, sealed: &Sealed) -> Result<Vec<(usize, String)>> {
    let mut bisect = Bisect::new(sealed.batch.rows.units.len());
    while let Some(probe) = bisect.probe() {
        let units: Vec<Unit> =
            probe.iter().map(|unit| sealed.batch.rows.units[*unit].clone()).collect();
        match sink.probe(&sealed.batch, &units).await {
            Ok(()) => bisect.answer(Ok(())),
            Err(error) if error.kind() == ErrorKind::Data => {
                bisect.answer(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(bisect.into_refused())
}
