//! Group 0: map, joins, directory, keys; and outcomes that are remembered.

use super::fixture::{Group, dump};
use crate::{
    command::{Command, Done, Entry, JoinDrive, JoinNode, Outcome, Refusal, SystemCommand},
    kv::Table,
    query::{Answer, BucketPhase, Query},
    state::{FLOOR_DISTANCE, StateError},
};
use ashlar_placement::{ClusterMap, Labels, Node, NodeState};
use ashlar_types::{
    BucketId, BucketName, ClusterId, DriveId, DriveUuid, GroupId, MapEpoch, NodeId, RequestId, SessionId,
    Timestamp, WriteEpoch,
    service::{AccessKey, User},
};

impl Group {
    fn system(&mut self, command: SystemCommand) -> Outcome {
        self.run_any(Command::System(command))
    }
}

fn node(rpc: &str) -> Node {
    Node { rpc: rpc.into(), s3: "http://s3".into(), labels: Labels::default(), state: NodeState::Member }
}

fn map() -> ClusterMap {
    ClusterMap::forming(ClusterId(5), node("one:1"))
}

fn formed() -> Group {
    let mut group = Group::empty(GroupId::SYSTEM);
    assert_eq!(group.system(SystemCommand::Form { map: Box::new(map()) }), Ok(Done::Map(MapEpoch(1))));
    group
}

#[test]
fn a_cluster_is_formed_once() {
    let mut group = Group::empty(GroupId::SYSTEM);
    assert_eq!(group.state.map(), None);
    let update = SystemCommand::UpdateMap { expected: MapEpoch(0), map: Box::new(map()) };
    assert_eq!(group.system(update), Err(Refusal::MapChanged { epoch: MapEpoch(0) }));
    let mut group = formed();
    assert_eq!(group.state.map().as_deref(), Some(&map()));
    assert_eq!(group.system(SystemCommand::Form { map: Box::new(map()) }), Ok(Done::Map(MapEpoch(1))));
    let other = ClusterMap { cluster: ClusterId(6), ..map() };
    let refused = group.system(SystemCommand::Form { map: Box::new(other) });
    assert_eq!(refused, Err(Refusal::MapChanged { epoch: MapEpoch(1) }));
    assert_eq!(group.query(Query::Map), Answer::Map(Some(Box::new(map()))));
}

#[test]
fn a_map_is_replaced_only_by_the_one_made_from_it() {
    let mut group = formed();
    let next = |epoch| Box::new(ClusterMap { epoch: MapEpoch(epoch), feature_level: 9, ..map() });
    let update =
        |expected, epoch| SystemCommand::UpdateMap { expected: MapEpoch(expected), map: next(epoch) };
    let changed = Err(Refusal::MapChanged { epoch: MapEpoch(1) });
    assert_eq!(group.system(update(2, 3)), changed);
    assert_eq!(group.system(update(1, 3)), changed);
    assert_eq!(group.system(update(0, 1)), changed);
    assert_eq!(group.system(update(1, 2)), Ok(Done::Map(MapEpoch(2))));
    assert_eq!(group.state.map().unwrap().feature_level, 9);
    assert_eq!(group.system(update(1, 2)), Err(Refusal::MapChanged { epoch: MapEpoch(2) }));
    let stranger = Box::new(ClusterMap { cluster: ClusterId(6), epoch: MapEpoch(3), ..map() });
    let stranger = SystemCommand::UpdateMap { expected: MapEpoch(2), map: stranger };
    assert_eq!(group.system(stranger), Err(Refusal::MapChanged { epoch: MapEpoch(2) }));
}

fn join(token: u8, rpc: &str, uuids: &[u128]) -> SystemCommand {
    SystemCommand::JoinNode(JoinNode {
        token_hash: [token; 32],
        rpc: rpc.into(),
        s3: "http://s3".into(),
        labels: Labels::default(),
        drives: uuids
            .iter()
            .map(|uuid| JoinDrive { uuid: DriveUuid(*uuid), capacity_bytes: 1 << 30 })
            .collect(),
    })
}

fn joined(outcome: Outcome) -> (NodeId, Vec<(DriveUuid, DriveId)>, ClusterMap) {
    match outcome {
        Ok(Done::Joined { node, drives, map }) => (node, drives, *map),
        other => panic!("{other:?}"),
    }
}

fn put_token(group: &mut Group, token: u8) {
    let expires = Timestamp(group.now + 1_000);
    group.system(SystemCommand::PutJoinToken { token_hash: [token; 32], expires }).unwrap();
}

#[test]
fn a_token_lets_one_node_in() {
    let mut group = formed();
    assert_eq!(group.system(join(1, "two:1", &[10, 11])), Err(Refusal::BadToken));
    put_token(&mut group, 1);
    let (node, drives, map) = joined(group.system(join(1, "two:1", &[11, 10])));
    assert_eq!(node, NodeId(2));
    assert_eq!(drives, [(DriveUuid(11), DriveId(1)), (DriveUuid(10), DriveId(2))]);
    assert_eq!(map.epoch, MapEpoch(2));
    assert_eq!(map.groups[&GroupId::SYSTEM].learners[0].node, NodeId(2));
    assert_eq!(group.state.map().as_deref(), Some(&map));
    // The same drives again, however late; others never.
    group.now += 10_000;
    assert_eq!(joined(group.system(join(1, "two:1", &[10, 11]))), (node, drives, map));
    assert_eq!(group.system(join(1, "three:1", &[12])), Err(Refusal::BadToken));
    put_token(&mut group, 1);
    assert_eq!(group.system(join(1, "three:1", &[12])), Err(Refusal::BadToken), "used is used");
}

#[test]
fn an_expired_token_lets_nobody_in() {
    let mut group = formed();
    put_token(&mut group, 1);
    // The next command is stamped with the very moment at which it ends.
    group.now += 998;
    assert_eq!(group.system(join(1, "two:1", &[10])), Err(Refusal::BadToken));
    put_token(&mut group, 2);
    group.now += 997;
    joined(group.system(join(2, "two:1", &[10])));
}

#[test]
fn known_drives_bring_their_node_back_under_its_old_numbers() {
    let mut group = formed();
    for token in 1..=4 {
        put_token(&mut group, token);
    }
    joined(group.system(join(1, "two:1", &[10, 11])));
    joined(group.system(join(2, "three:1", &[20])));
    // Moved, with one more drive.
    let (node, drives, map) = joined(group.system(join(3, "two:2", &[10, 11, 12])));
    assert_eq!(node, NodeId(2));
    let ids: Vec<_> = drives.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids, [DriveId(1), DriveId(2), DriveId(4)]);
    assert_eq!(map.nodes[&node].rpc, "two:2");
    assert_eq!(map.groups[&GroupId::SYSTEM].learners.len(), 2);
    let mixed = group.system(join(4, "four:1", &[10, 20]));
    assert_eq!(mixed, Err(Refusal::DriveKnownElsewhere { uuid: DriveUuid(20) }));
    // The refusal did not use the token up.
    joined(group.system(join(4, "four:1", &[40])));
}

fn reserve(name: &str, owner: &str) -> SystemCommand {
    SystemCommand::ReserveBucket {
        name: BucketName::parse(name).unwrap(),
        owner: owner.into(),
        location: "here".into(),
        group: GroupId(3),
    }
}

#[test]
fn a_bucket_name_is_reserved_activated_and_freed() {
    let mut group = formed();
    let Ok(Done::Bucket(info)) = group.system(reserve("first", "me")) else { panic!("not reserved") };
    assert_eq!((info.id, info.group, info.created), (BucketId(1), GroupId(3), Timestamp(group.now)));
    assert_eq!(group.system(reserve("first", "me")), Ok(Done::Bucket(info.clone())));
    assert_eq!(group.system(reserve("first", "you")), Err(Refusal::BucketTaken));
    let by_name = Query::Bucket { name: info.name.clone() };
    let phase = |group: &Group| match group.query(by_name.clone()) {
        Answer::Bucket(row) => row.map(|row| row.phase),
        other => panic!("{other:?}"),
    };
    assert_eq!(phase(&group), Some(BucketPhase::Reserved));
    let owned = |group: &Group, owner: &str| match group.query(Query::Buckets { owner: owner.into() }) {
        Answer::Buckets(rows) => rows.into_iter().map(|row| row.info.name.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert!(owned(&group, "me").is_empty(), "not active yet");
    let activate = SystemCommand::ActivateBucket { bucket: info.id };
    group.system(activate.clone()).unwrap();
    assert_eq!(phase(&group), Some(BucketPhase::Active));
    let Ok(Done::Bucket(other)) = group.system(reserve("another", "me")) else { panic!("not reserved") };
    group.system(SystemCommand::ActivateBucket { bucket: other.id }).unwrap();
    assert_eq!(owned(&group, "me"), ["another", "first"]);
    assert!(owned(&group, "you").is_empty());
    let remove = SystemCommand::RemoveBucket { bucket: info.id };
    group.system(remove.clone()).unwrap();
    group.system(remove).unwrap();
    assert_eq!(phase(&group), None);
    assert_eq!(group.system(activate), Err(Refusal::NoSuchBucket));
    // Numbers are never given twice.
    let Ok(Done::Bucket(again)) = group.system(reserve("first", "you")) else { panic!("not reserved") };
    assert_eq!(again.id, BucketId(3));
    let Answer::Buckets(all) = group.query(Query::BucketRows) else { panic!("no buckets") };
    assert_eq!(all.len(), 2);
}

#[test]
fn access_keys_and_their_users() {
    let mut group = formed();
    let user = |id: &str| User { id: id.into(), display_name: id.into(), email: String::new() };
    let key = |id: &str, owner| AccessKey { id: id.into(), secret: "s".into(), user: user(owner) };
    for key in [key("k1", "me"), key("k2", "me"), key("k3", "you")] {
        group.system(SystemCommand::PutAccessKey { key }).unwrap();
    }
    assert_eq!(group.query(Query::Users), Answer::Users(vec![user("me"), user("you")]));
    let by_id = Query::AccessKey { id: "k2".into() };
    assert_eq!(group.query(by_id.clone()), Answer::AccessKey(Some(key("k2", "me"))));
    group.system(SystemCommand::DeleteAccessKey { id: "k2".into() }).unwrap();
    assert_eq!(group.query(by_id), Answer::AccessKey(None));
    assert_eq!(group.query(Query::Users), Answer::Users(vec![user("me"), user("you")]));
}

fn requests(group: &Group) -> usize {
    dump(&group.kv).keys().filter(|(table, _)| *table == Table::Requests).count()
}

#[test]
fn outcomes_are_remembered_until_their_epoch_is_below_the_floor() {
    let mut group = formed();
    let entry = |write_epoch, sequence| Entry {
        request: Some(RequestId { write_epoch: WriteEpoch(write_epoch), session: SessionId(2), sequence }),
        stamp: Timestamp(0),
        command: Command::System(reserve("bucket", "me")),
    };
    let first = group.apply(entry(0, 1));
    group.system(SystemCommand::RemoveBucket { bucket: BucketId(1) }).unwrap();
    assert_eq!(group.apply(entry(0, 1)), first, "a retry does not reserve again");
    let by_name = Query::Bucket { name: BucketName::parse("bucket").unwrap() };
    assert_eq!(group.query(by_name.clone()), Answer::Bucket(None));
    for epoch in 0..FLOOR_DISTANCE {
        group.run_any(Command::AdvanceWriteEpoch { from: WriteEpoch(epoch) }).unwrap();
    }
    assert_eq!(group.apply(entry(0, 1)), first);
    group.run_any(Command::AdvanceWriteEpoch { from: WriteEpoch(FLOOR_DISTANCE) }).unwrap();
    assert_eq!(group.apply(entry(0, 1)), Err(Refusal::Expired));
    assert_eq!(group.query(by_name), Answer::Bucket(None));
}

#[test]
fn old_outcomes_are_forgotten_a_few_with_each_entry() {
    let group = formed();
    let nothing = |write_epoch, sequence| Entry {
        request: Some(RequestId { write_epoch: WriteEpoch(write_epoch), session: SessionId(2), sequence }),
        stamp: Timestamp(0),
        command: Command::Nothing,
    };
    let entries: Vec<_> = (0..1_500).map(|sequence| nothing(0, sequence)).collect();
    group.state.apply(&entries, b"").unwrap();
    let kept = requests(&group);
    assert!(kept >= 1_500);
    let advance = |from| Entry {
        request: None,
        stamp: Timestamp(0),
        command: Command::AdvanceWriteEpoch { from: WriteEpoch(from) },
    };
    let entries: Vec<_> = (0..=FLOOR_DISTANCE).map(advance).collect();
    group.state.apply(&entries, b"").unwrap();
    assert_eq!(requests(&group), kept - 1_000, "bounded when the floor moves");
    let entries: Vec<_> = (0..50).map(|sequence| nothing(10, sequence)).collect();
    group.state.apply(&entries, b"").unwrap();
    assert_eq!(requests(&group), kept - 1_000 - 4 * 50 + 50, "four go for one that comes");
    let entries: Vec<_> = (50..250).map(|sequence| nothing(10, sequence)).collect();
    group.state.apply(&entries, b"").unwrap();
    assert_eq!(requests(&group), 250, "and none of those that count");
}

#[test]
fn a_reservation_is_given_up_only_before_the_bucket_is_used() {
    let mut group = formed();
    let reserve = |group: &mut Group, name: &str| {
        let reserve = SystemCommand::ReserveBucket {
            name: BucketName::parse(name).unwrap(),
            owner: "me".into(),
            location: String::new(),
            group: GroupId(1),
        };
        match group.system(reserve).unwrap() {
            Done::Bucket(info) => info.id,
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (reserve(&mut group, "first"), reserve(&mut group, "second"));
    group.system(SystemCommand::ActivateBucket { bucket: first }).unwrap();
    for bucket in [first, second, second] {
        assert_eq!(group.system(SystemCommand::AbandonBucket { bucket }), Ok(Done::Nothing));
    }
    let Answer::Buckets(rows) = group.query(Query::BucketRows) else { panic!("no rows") };
    assert_eq!(rows.iter().map(|row| row.info.id).collect::<Vec<_>>(), [first]);
    assert_eq!(group.system(SystemCommand::ActivateBucket { bucket: second }), Err(Refusal::NoSuchBucket));
    assert_ne!(reserve(&mut group, "second"), second, "bucket ids are given once");
}

#[test]
fn commands_above_the_level_of_the_group_are_refused() {
    let mut group = Group::empty(GroupId::SYSTEM);
    // A group of a release before the first level.
    let record = crate::tables::record::GroupRecord::default();
    let mut batch = crate::kv::Batch::default();
    batch.put(Table::Meta, crate::tables::GROUP, crate::encoding::encode_row(&record));
    crate::kv::Kv::write(&group.kv, batch).unwrap();
    group.state =
        crate::state::StateMachine::open(GroupId::SYSTEM, std::sync::Arc::new(group.kv.clone())).unwrap();
    let form = SystemCommand::Form { map: Box::new(map()) };
    assert_eq!(group.system(form.clone()), Err(Refusal::NotUnderstood));
    assert_eq!(group.run_any(Command::Nothing), Ok(Done::Nothing));
    assert_eq!(group.run_any(Command::SetFeatureLevel { level: 1 }), Ok(Done::Nothing));
    assert_eq!(group.state.group_state().feature_level, 1);
    assert!(group.system(form).is_ok());
    assert_eq!(group.run_any(Command::SetFeatureLevel { level: 0 }), Ok(Done::Nothing));
    assert_eq!(group.state.group_state().feature_level, 1, "never lowered");
}

#[test]
fn a_replica_stops_where_its_group_goes_beyond_it() {
    let mut group = formed();
    let level = crate::command::FEATURE_LEVEL + 1;
    let before = dump(&group.kv);
    let entry = Entry {
        request: Some(group.request()),
        stamp: Timestamp(0),
        command: Command::SetFeatureLevel { level },
    };
    let stopped = group.state.apply(std::slice::from_ref(&entry), b"");
    assert!(matches!(stopped, Err(StateError::FeatureLevel { level: l }) if l == level));
    assert_eq!(dump(&group.kv), before);
    assert!(matches!(group.state.apply(&[], b""), Err(StateError::Failed)));
    // Tables of a newer release are not opened.
    let mut record: crate::tables::record::GroupRecord =
        crate::encoding::decode_row(&before[&(Table::Meta, crate::tables::GROUP.to_vec())]).unwrap();
    record.feature_level = level;
    let mut batch = crate::kv::Batch::default();
    batch.put(Table::Meta, crate::tables::GROUP, crate::encoding::encode_row(&record));
    crate::kv::Kv::write(&group.kv, batch).unwrap();
    let opened = crate::state::StateMachine::open(GroupId::SYSTEM, std::sync::Arc::new(group.kv.clone()));
    assert!(matches!(opened.err(), Some(StateError::FeatureLevel { .. })));
}
