//! Does a mirror in the warehouse ever hide a change? The histories of this folder with their rows compared in a warehouse
//! whose mirrors suffer; and with the protocol got wrong in the ways of tools that keep checksums beside the data.

use super::history::{Genre, Palette};
use super::store::Mutant;
use super::world::{DRIZZLE, STORM};
use super::{assert_all_well, difference, difference_on_server, failure, failures, genre};

fn mirrored(genre: Genre) -> Genre {
    Genre { mirrored: true, ..genre }
}

#[test]
fn a_mirror_hides_no_change_in_eight_thousand_histories() {
    assert_all_well(8_000_000..8_003_000, mirrored(genre(STORM, Palette::Equal)), failure);
    assert_all_well(8_100_000..8_103_000, mirrored(genre(DRIZZLE, Palette::Equal)), failure);
    assert_all_well(8_200_000..8_202_000, mirrored(genre(STORM, Palette::Any)), failure);
}

/// The same over real ledgers, which keep the record of the mirror and are killed with everything else.
#[test]
fn histories_with_a_mirror_end_alike_over_every_ledger() {
    for (from, palette) in [(8_300_000, Palette::Equal), (8_400_000, Palette::Any)] {
        let genre = Genre { groups: 100, runs: 8, concurrency: 1, ..mirrored(genre(STORM, palette)) };
        assert_all_well(from..from + 6, genre, difference);
        assert_all_well(from + 100..from + 102, genre, difference_on_server);
    }
}

/// Without keys that are unmirrored, and with a mirror that is believed: a simulation that cannot fail proves nothing.
#[test]
fn what_others_do_with_their_checksums_hides_changes() {
    const HISTORIES: u64 = 1_000;
    for mutant in [Mutant::NothingIsUnmirrored, Mutant::TrustsTheMirror] {
        let genre = Genre { mutant, ..mirrored(genre(STORM, Palette::Equal)) };
        let lost = failures(8_000_000..8_000_000 + HISTORIES, genre, failure).len();
        println!("{mutant:?} hides a change in {lost} of {HISTORIES} histories");
        assert!(lost > 0, "{mutant:?} survives");
    }
}
