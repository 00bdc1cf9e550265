//! The fields of Kubernetes' files are tested, and the ledger and the page about them are those of the table.

use super::{none, top};
use runtime_tests::fields;
use std::fs;

/// Fields that no file of Kubernetes has: they are what its fields become.
const OWN: [&str; 1] = ["ClaimVolume.perReplica"];

#[test]
fn every_supported_field_of_kubernetes_is_written_by_a_test() {
    let all = fields::read(&top()).unwrap_or_else(|e| panic!("{e:?}"));
    let bare = all.iter().filter(|f| f.class == "done" && f.tests.is_empty());
    let ids = bare.map(|f| format!("{}.{}", f.owner, f.name)).filter(|id| !OWN.contains(&id.as_str()));
    none(ids.map(|id| format!("{}: {id}: no test writes it", fields::TABLE)).collect());
}

#[test]
fn the_ledger_and_the_page_of_fields_are_those_of_the_table() {
    let all = fields::read(&top()).unwrap_or_else(|e| panic!("{e:?}"));
    for (file, text) in [(fields::LEDGER, fields::ledger(&all)), (fields::PAGE, fields::page(&all))] {
        let have = fs::read_to_string(top().join(file)).unwrap_or_default();
        assert!(have == text, "{file} is old: run `runtime-tests --write-ledger .`");
    }
}
