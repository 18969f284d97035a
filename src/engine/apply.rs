//! Applies one sealed batch whole: what the database refuses for its data becomes dead letters in the same
//! transaction that applies the rest.

use super::Ports;
use super::batch::{Bisect, Sealed};
use super::ports::{Applied, Clock, Ledger, Sink, Source, Unit};
use super::retry::{Directive, Stage, directive};
use crate::error::{Error, ErrorKind, Result};

/// Applies the batch; where the data of some records is refused, without those, as dead letters.
///
/// Each round takes at least one record out of the batch, so there are as many as refused records at most:
/// a refused change may bring back one before it of the same key, which is refused too.
pub(super) async fn apply_whole<S, L, K, C>(
    ports: &Ports<S, L, K, C>,
    sealed: &mut Sealed,
) -> Result<Applied>
where
    S: Source,
    L: Ledger,
    K: Sink,
    C: Clock,
{
    loop {
        let error = match ports.sink.apply(&sealed.batch).await {
            Ok(applied) => return Ok(applied),
            Err(error) => error,
        };
        if directive(Stage::Apply, error.kind()) != Directive::Bisect {
            return Err(error);
        }
        let refused = bisect(ports, sealed).await?;
        if refused.is_empty() {
            let what = "postgres refuses the data of a batch, but of none of its rows";
            return Err(Error::new(ErrorKind::Unknown, what).with_source(error));
        }
        sealed.refuse(&refused);
    }
}

async fn bisect<S, L, K, C>(
    ports: &Ports<S, L, K, C>,
    sealed: &Sealed,
) -> Result<Vec<(usize, String)>>
where
    S: Source,
    L: Ledger,
    K: Sink,
    C: Clock,
{
    let mut bisect = Bisect::new(sealed.batch.units.len());
    while let Some(probe) = bisect.probe() {
        let units: Vec<Unit> = probe.iter().map(|unit| sealed.batch.units[*unit].clone()).collect();
        match ports.sink.probe(&sealed.batch, &units).await {
            Ok(()) => bisect.answer(Ok(())),
            Err(error) if error.kind() == ErrorKind::Data => {
                bisect.answer(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(bisect.into_refused())
}
