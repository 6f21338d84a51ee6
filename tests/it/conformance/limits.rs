//! Does any request pass a limit, and are there as few requests as can be? Real elements through delivery's packing.

use std::sync::Arc;

use chrono::DateTime;
use groupcast::destination::batch::{Size, pack};
use groupcast::destination::{AddressedChange, Attempt, Destination, Element, RequestLimits, Route};
use groupcast::model::{Change, Op};

use super::{Says, Subject, addressed, first_attempt};

/// An element with the traits it speaks about.
struct Piece {
    element: Element,
    traits: usize,
}

impl Piece {
    fn size(&self) -> Size {
        Size { bytes: self.element.bytes.len(), traits: self.traits }
    }
}

/// Makes elements of one route.
struct Maker<'a> {
    destination: &'a dyn Destination,
    who: String,
    route: Route,
    says: Says,
}

impl<'a> Maker<'a> {
    fn all(subject: &Subject, destination: &'a dyn Destination) -> Vec<Maker<'a>> {
        let routes = subject.routes().into_iter();
        routes
            .map(|(route, says)| Maker {
                destination,
                who: format!("{} route {route} ({says:?})", subject.row.name),
                route,
                says,
            })
            .collect()
    }

    fn limits(&self) -> RequestLimits {
        self.destination.limits(self.route)
    }

    /// The pieces of a change on this route; none when the destination refuses it.
    fn cut(&self, addressed: &AddressedChange) -> Vec<Piece> {
        let parts = self.destination.parts(addressed).unwrap_or_default();
        let here = parts.into_iter().filter(|part| part.route == self.route);
        here.map(|part| Piece {
            element: self.destination.element(addressed, &part),
            traits: part.change.traits_count(),
        })
        .collect()
    }

    /// The pieces of group `at`; keys are as long as each other.
    fn group(&self, at: usize, traits: usize, filler: &str) -> Vec<Piece> {
        let change = self.says.change(traits, filler);
        self.cut(&addressed(self.destination, &format!("group_{at:08}"), change))
    }

    /// Groups of so many traits each.
    fn groups(&self, count: usize, traits: usize, filler: &str) -> Vec<Piece> {
        (0..count).flat_map(|at| self.group(at, traits, filler)).collect()
    }

    /// How long the texts of its traits may be, at least.
    fn letters(&self) -> usize {
        let takes = |letters: &usize| !self.group(0, 1, &"x".repeat(letters + AROUND)).is_empty();
        LETTERS.into_iter().find(takes).unwrap_or(LETTERS[1])
    }

    /// Whether its changes hold text, so that an element can be of any size.
    fn stretches(&self) -> bool {
        matches!(self.says, Says::Values(Op::Set | Op::SetOnce | Op::Append | Op::Prepend))
    }

    /// Packs, builds every request, holds it to all limits, and compares their number with the fewest possible.
    #[track_caller]
    fn packed(&self, pieces: &[Piece]) -> usize {
        let (who, limits) = (&self.who, self.limits());
        let sizes: Vec<Size> = pieces.iter().map(Piece::size).collect();
        let packed = pack(&sizes, &limits, usize::MAX);
        for (at, reason) in &packed.oversized {
            let over = sizes[*at].bytes > limits.element_bytes_max.min(limits.body_bytes_max - limits.envelope_bytes);
            assert!(over, "{who}: {reason}, although `parts` cuts by traits");
        }
        let late = DateTime::from_timestamp_millis(253_402_300_799_999).unwrap();
        for batch in &packed.batches {
            let elements: Vec<&Element> = batch.iter().map(|at| &pieces[*at].element).collect();
            let inner: usize = elements.iter().map(|element| element.bytes.len()).sum();
            let traits: usize = batch.iter().map(|at| pieces[*at].traits).sum();
            let promised = limits.envelope_bytes + inner + limits.separator_bytes * (elements.len() - 1);
            assert!(elements.len() <= limits.elements_max && traits <= limits.traits_max, "{who}");
            assert!(elements.iter().all(|element| element.bytes.len() <= limits.element_bytes_max), "{who}");
            assert!(
                elements.len() == 1 || elements.iter().all(|element| element.address.is_empty()),
                "{who}: one address, several elements"
            );
            for attempt in [first_attempt(), Attempt { at: late, number: u32::MAX, request: 0 }] {
                let bytes = self.destination.request(self.route, &elements, attempt).body.len();
                assert!(bytes <= promised, "{who}: {bytes} bytes, and {promised} were promised");
                assert!(bytes <= limits.body_bytes_max, "{who}: {bytes} bytes of {}", limits.body_bytes_max);
            }
        }
        let fitting: Vec<Size> = (0..sizes.len())
            .filter(|at| packed.oversized.iter().all(|(over, _)| over != at))
            .map(|at| sizes[at])
            .collect();
        let (count, fewest) = (packed.batches.len(), fewest(&fitting, &limits));
        assert!(count >= fewest, "{who}: the lower bound is wrong: {count} requests, at least {fewest}");
        assert!(
            count <= fewest + (fewest / 20).max(usize::from(fewest > 1)),
            "{who}: {count} requests, {fewest} could do"
        );
        count
    }
}

/// No packing has fewer requests: each dimension alone asks for so many, and so do elements of which no two share one.
fn fewest(sizes: &[Size], limits: &RequestLimits) -> usize {
    let room = limits.body_bytes_max - limits.envelope_bytes + limits.separator_bytes;
    let whole = |size: &Size| size.bytes + limits.separator_bytes;
    let bytes: usize = sizes.iter().map(whole).sum();
    let traits: usize = sizes.iter().map(|size| size.traits).sum();
    let over_half = sizes.iter().filter(|size| 2 * whole(size) > room).count();
    let over_half_of_traits =
        sizes.iter().filter(|size| size.traits > limits.traits_max / 2 + limits.traits_max % 2).count();
    let each = [sizes.len().div_ceil(limits.elements_max), traits.div_ceil(limits.traits_max), bytes.div_ceil(room)];
    each.into_iter().chain([over_half, over_half_of_traits]).max().unwrap_or(0)
}

#[test]
fn so_many_elements_and_no_more() {
    for subject in Subject::all() {
        let destination = subject.destination();
        for maker in Maker::all(&subject, &*destination) {
            let max = maker.limits().elements_max;
            assert!((1..=100_000).contains(&max), "{}: a batch fits memory", maker.who);
            for count in [max - 1, max, max + 1] {
                let pieces = maker.groups(count, 1, "");
                assert_eq!(pieces.len(), count, "{}: one trait is one element", maker.who);
                let requests = maker.packed(&pieces);
                let bytes: usize =
                    pieces.iter().map(|piece| piece.element.bytes.len() + maker.limits().separator_bytes).sum();
                if bytes + maker.limits().envelope_bytes <= maker.limits().body_bytes_max
                    && count <= maker.limits().traits_max
                {
                    assert_eq!(requests, count.div_ceil(max), "{}: {count} elements", maker.who);
                }
            }
        }
    }
}

#[test]
fn so_many_traits_and_no_more() {
    for subject in Subject::all() {
        let destination = subject.destination();
        for maker in Maker::all(&subject, &*destination) {
            let max = maker.limits().traits_max;
            if max > 100_000 || maker.says == Says::Delete {
                continue;
            }
            for count in [max - 1, max, max + 1, 2 * max, 2 * max + 1] {
                let pieces = maker.group(0, count, "");
                assert_eq!(pieces.iter().map(|piece| piece.traits).sum::<usize>(), count, "{}", maker.who);
                assert!(pieces.iter().all(|piece| piece.traits <= max), "{}: {count} traits of one group", maker.who);
                maker.packed(&pieces);
            }
            for (groups, each) in
                [(2, max / 2), (2, max / 2 + 1), (max / 2, 3), (3, max / 3 + 1), (max, 1), (max + 1, 1)]
            {
                maker.packed(&maker.groups(groups, each, ""));
            }
        }
    }
}

/// Letters of a trait that only takes room, where long texts are allowed and where not: with what surrounds them in any
/// encoding (at most [`AROUND`]) still within the 1,024 characters, or 255 bytes, of some vendors.
const LETTERS: [usize; 2] = [980, 200];
const AROUND: usize = 44;

/// A change whose element on the maker's route has exactly so many bytes: traits of [`Maker::letters`], the last one stretched
/// to measure. None when no such change exists.
fn of_bytes(maker: &Maker<'_>, at: usize, bytes: usize) -> Option<Piece> {
    let letters = maker.letters();
    let only = |traits: usize, last: usize| {
        let change: Change =
            maker.says.with(traits, |trait_at| "x".repeat(if trait_at + 1 == traits { last } else { letters }));
        let mut pieces = maker.cut(&addressed(maker.destination, &format!("group_{at:08}"), change));
        (pieces.len() == 1).then(|| pieces.remove(0))
    };
    let size = |traits: usize| Some(only(traits, 0)?.element.bytes.len());
    let (one, two) = (size(1)?, size(2)?);
    // A route that carries no values has nothing to stretch.
    let step = two.checked_sub(one).filter(|step| *step > letters)?;
    // Braces of operators, and digits of counts, make steps uneven by a few bytes.
    for traits in (1 + bytes.saturating_sub(one) / step..).take(3) {
        let short = bytes.checked_sub(size(traits)?)?;
        if short <= letters + AROUND {
            let piece = only(traits, short)?;
            return (piece.element.bytes.len() == bytes).then_some(piece);
        }
    }
    None
}

#[test]
fn so_many_bytes_of_a_body_and_no_more() {
    for subject in Subject::all() {
        let destination = subject.destination();
        let mut reached = false;
        for maker in Maker::all(&subject, &*destination).into_iter().filter(Maker::stretches) {
            let limits = maker.limits();
            if limits.elements_max == 1 {
                continue;
            }
            // A few elements as large as may be, and one that fills what is left.
            let traits_each = (limits.traits_max / 4).min(200);
            let large =
                (limits.element_bytes_max / 100 * 98).min(limits.body_bytes_max / 3).min(traits_each * maker.letters());
            let bulk: Vec<usize> = {
                let whole = limits.body_bytes_max - limits.envelope_bytes;
                let each = large + limits.separator_bytes;
                let count = (whole / each).min(limits.elements_max - 1).saturating_sub(1).max(1);
                vec![large; count]
            };
            for over in [-1_isize, 0, 1] {
                let mut pieces: Vec<Piece> =
                    bulk.iter().enumerate().filter_map(|(at, bytes)| of_bytes(&maker, at, *bytes)).collect();
                let used: usize = pieces.iter().map(|piece| piece.element.bytes.len() + limits.separator_bytes).sum();
                let left = (limits.body_bytes_max - limits.envelope_bytes - used).checked_add_signed(over).unwrap();
                // Two share the rest, since one alone might be larger than an element may be.
                let half = left / 2;
                let rest = [half, left - half - limits.separator_bytes];
                let fillers: Vec<Piece> =
                    rest.iter().enumerate().filter_map(|(at, bytes)| of_bytes(&maker, 1_000 + at, *bytes)).collect();
                if pieces.len() != bulk.len() || fillers.len() != 2 {
                    continue;
                }
                pieces.extend(fillers);
                let traits: usize = pieces.iter().map(|piece| piece.traits).sum();
                if pieces.len() > limits.elements_max || traits > limits.traits_max {
                    continue;
                }
                reached = true;
                assert_eq!(maker.packed(&pieces), if over > 0 { 2 } else { 1 }, "{}: {over:+} bytes", maker.who);
            }
        }
        let batches = subject.routes().keys().any(|route| destination.limits(*route).elements_max > 1);
        assert!(reached || !batches, "{}: no body reached its limit", subject.row.name);
    }
}

#[test]
fn so_many_bytes_of_an_element_and_no_more() {
    for subject in Subject::all() {
        let destination = subject.destination();
        for maker in Maker::all(&subject, &*destination).into_iter().filter(Maker::stretches) {
            let limits = maker.limits();
            let max = limits.element_bytes_max.min(limits.body_bytes_max - limits.envelope_bytes);
            // What `parts` leaves unused on the way to the limit must be little.
            let largest = [0, 1, 8, 32, 128, 200, max / 500, max / 200, max / 100]
                .into_iter()
                .find_map(|less| of_bytes(&maker, 0, max - less));
            // Unless traits of one element are limited before its bytes are.
            if of_bytes(&maker, 0, 2_000).is_some() && maker.group(0, max / maker.letters() + 1, "").len() == 1 {
                assert!(largest.is_some(), "{}: no element comes near its limit of {max} bytes", maker.who);
            }
            if let Some(largest) = largest {
                assert_eq!(maker.packed(&[largest]), 1, "{}", maker.who);
            }
            // Above it: cut into parts that fit, refused by `parts`, or named as too large; never sent.
            for more in [0, max] {
                let traits = (max + more) / maker.letters() + 1;
                let pieces = maker.group(0, traits, &"x".repeat(maker.letters()));
                let sizes: Vec<Size> = pieces.iter().map(Piece::size).collect();
                let packed = pack(&sizes, &limits, usize::MAX);
                for batch in &packed.batches {
                    assert!(batch.iter().all(|at| sizes[*at].bytes <= max), "{}", maker.who);
                }
                maker.packed(&pieces);
            }
        }
    }
}

#[test]
fn account_rows_take_few_requests() {
    for subject in Subject::all() {
        let destination = subject.destination();
        for maker in Maker::all(&subject, &*destination) {
            let limits = maker.limits();
            let mut random = fastrand::Rng::with_seed(19);
            let count = (limits.elements_max * 25).clamp(50, 6_000);
            let mut pieces = Vec::new();
            for at in 0..count {
                // Mostly few short traits; some groups with many, some with long ones.
                let traits = if random.u8(..) < 230 { random.usize(1..12) } else { random.usize(12..120) };
                let letters = if random.u8(..) < 250 { random.usize(0..40) } else { random.usize(40..900) };
                let change = maker.says.change(traits, &"é".repeat(letters / 2));
                pieces.extend(maker.cut(&AddressedChange {
                    change: Arc::new(change),
                    ..addressed(maker.destination, &format!("acct_{at}"), Change::default())
                }));
            }
            // A few are larger than some vendors take.
            assert!(pieces.len() >= count / 10 * 9, "{}", maker.who);
            maker.packed(&pieces);
        }
    }
}
