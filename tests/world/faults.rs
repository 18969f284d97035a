//! What can go wrong between a client and the service, by chance or on order.

use super::World;

/// What may go wrong. Shares are between 0 and 1; all are 0 and all delays nothing by default.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Share of calls that are throttled.
    pub throttle: f64,
    /// Share of calls that meet an internal error.
    pub internal: f64,
    /// Share of calls whose answer never arrives.
    pub unreachable: f64,
    /// Share of calls that are refused for their credentials or rights.
    pub denied: f64,
    /// Share of calls that meet an error which nobody foresaw.
    pub invalid: f64,
    /// Share of `GetRecords` calls that find an iterator expired before its time.
    pub expired: f64,
    /// Share of `GetRecords` calls that return nothing though there may be records.
    pub empty_page: f64,
    /// After so many empty pages in a row, whatever their reason, the next one tells the truth.
    pub empty_pages_max: u32,
    /// Share of `GetRecords` and `Scan` calls that return fewer than they could.
    pub short_page: f64,
    /// Share of ends that come in a later page than the last records; the others come with them.
    pub late_end: f64,
    /// Share of shards that a listing leaves out, anew in each call.
    pub omitted_shard: f64,
    /// Share of listing pages that come twice.
    pub repeated_page: f64,
    /// How long, at most, a new shard stays out of all listings: its parent is a closed leaf meanwhile.
    pub listing_delay_millis: i64,
    /// How long, at most, a closed shard goes on as if it were open, though it gets no more records and
    /// its children are there.
    pub closing_delay_millis: i64,
    /// For how long a scan that is not consistent shows an item as it was before its newest write.
    pub stale_millis: i64,
    /// Whether `DescribeStream` ignores the filter for child shards, as older emulators do.
    pub ignores_shard_filter: bool,
    /// Whether an iterator after the very last trimmed record is refused although nothing is lost.
    pub strict_trimming: bool,
    /// The most shards in one page of a listing; the service's own limit is 100.
    pub listing_page_max: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            throttle: 0.0,
            internal: 0.0,
            unreachable: 0.0,
            denied: 0.0,
            invalid: 0.0,
            expired: 0.0,
            empty_page: 0.0,
            empty_pages_max: u32::MAX,
            short_page: 0.0,
            late_end: 0.0,
            omitted_shard: 0.0,
            repeated_page: 0.0,
            listing_delay_millis: 0,
            closing_delay_millis: 0,
            stale_millis: 0,
            ignores_shard_filter: false,
            strict_trimming: false,
            listing_page_max: 100,
        }
    }
}

impl Faults {
    /// A bad day: a bit of everything that loses no data.
    pub fn bad_day() -> Self {
        Self {
            throttle: 0.05,
            internal: 0.03,
            unreachable: 0.03,
            expired: 0.01,
            empty_page: 0.1,
            short_page: 0.3,
            late_end: 0.5,
            omitted_shard: 0.1,
            repeated_page: 0.05,
            listing_delay_millis: 90_000,
            closing_delay_millis: 60_000,
            stale_millis: 1_000,
            ..Self::default()
        }
    }
}

/// A call of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `DescribeTable`.
    DescribeTable,
    /// `DescribeStream`, filtered or not.
    DescribeStream,
    /// `GetShardIterator`.
    ShardIterator,
    /// `GetRecords`.
    Records,
    /// `Scan`.
    Scan,
    /// `GetItem`.
    GetItem,
}

/// What a call meets when it was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails.
    Fail(WorldError),
    /// A page without records and not the end.
    EmptyPage,
    /// Nothing happens to this call: a place-holder that lets one call pass.
    Pass,
}

/// Why the service refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldError {
    /// `LimitExceededException`: too many calls.
    LimitExceeded,
    /// `ProvisionedThroughputExceededException`: a table's capacity is used up.
    Throughput,
    /// `InternalServerError`.
    Internal,
    /// No answer at all.
    Unreachable,
    /// `ExpiredIteratorException`.
    ExpiredIterator,
    /// `TrimmedDataAccessException`.
    Trimmed,
    /// `ResourceNotFoundException`.
    NotFound,
    /// `AccessDeniedException`.
    Denied,
    /// `ValidationException`.
    Invalid,
}

impl WorldError {
    /// The service's own name of the error; nothing where there was no answer.
    pub fn code(self) -> Option<&'static str> {
        Some(match self {
            Self::LimitExceeded => "LimitExceededException",
            Self::Throughput => "ProvisionedThroughputExceededException",
            Self::Internal => "InternalServerError",
            Self::Unreachable => return None,
            Self::ExpiredIterator => "ExpiredIteratorException",
            Self::Trimmed => "TrimmedDataAccessException",
            Self::NotFound => "ResourceNotFoundException",
            Self::Denied => "AccessDeniedException",
            Self::Invalid => "ValidationException",
        })
    }
}

impl World {
    /// Counts the call and says what it meets: an ordered fault first, else what chance brings.
    pub(super) fn meet(&mut self, operation: Operation) -> Result<Option<Fault>, WorldError> {
        *self.calls.entry(operation).or_insert(0) += 1;
        let ordered = self.orders.iter().position(|(ordered, _)| *ordered == operation);
        if let Some(index) = ordered {
            return match self.orders.remove(index).1 {
                Fault::Fail(error) => Err(error),
                other => Ok(Some(other)),
            };
        }
        let throttled = match operation {
            Operation::Scan | Operation::GetItem => WorldError::Throughput,
            _ => WorldError::LimitExceeded,
        };
        // Many items are read at once, and without a second try: some of those reads are to succeed as one.
        let often = if operation == Operation::GetItem { 0.1 } else { 1.0 };
        let chances = [
            ("throttled calls", self.faults.throttle * often, throttled),
            ("internal errors", self.faults.internal * often, WorldError::Internal),
            ("unreachable services", self.faults.unreachable * often, WorldError::Unreachable),
            ("calls refused for their rights", self.faults.denied * often, WorldError::Denied),
            ("calls with unforeseen errors", self.faults.invalid * often, WorldError::Invalid),
        ];
        for (what, share, error) in chances {
            if self.strikes(what, share) {
                return Err(error);
            }
        }
        Ok(None)
    }

    /// True, and counted, in this share of calls; a share of zero draws nothing, so that it leaves other
    /// draws alone.
    pub(super) fn strikes(&mut self, what: &'static str, share: f64) -> bool {
        let strikes = share > 0.0 && self.rng.f64() < share;
        if strikes {
            *self.tally.entry(what).or_insert(0) += 1;
        }
        strikes
    }
}
