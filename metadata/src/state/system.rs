//! Group 0: the cluster map, and who may sign requests.

use super::apply::{Applied, Apply};
use crate::{
    command::{Done, Refusal},
    kv::Table,
    tables,
};
use ashlar_placement::ClusterMap;
use ashlar_types::{MapEpoch, service::AccessKey};

impl Apply<'_> {
    /// Again with the map of the same cluster, it answers the epoch of now.
    pub(super) fn form(&mut self, map: &ClusterMap) -> Applied {
        match self.current_map()? {
            None => self.put_map(map.clone()),
            Some(known) if known.cluster == map.cluster => Ok(Done::Map(known.epoch)),
            Some(known) => Err(Refusal::MapChanged { epoch: known.epoch }.into()),
        }
    }

    pub(super) fn update_map(&mut self, expected: MapEpoch, map: &ClusterMap) -> Applied {
        let known = self.current_map()?;
        let epoch = known.as_ref().map_or(MapEpoch(0), |known| known.epoch);
        let follows = known.is_some_and(|known| {
            known.epoch == expected && map.cluster == known.cluster && map.epoch == MapEpoch(expected.0 + 1)
        });
        if follows { self.put_map(map.clone()) } else { Err(Refusal::MapChanged { epoch }.into()) }
    }

    /// As of the entries applied so far.
    pub(super) fn current_map(&self) -> Applied<Option<ClusterMap>> {
        match &self.map {
            Some(map) => Ok(Some(map.clone())),
            None => Ok(self.record(Table::Map, tables::MAP)?),
        }
    }

    pub(super) fn put_map(&mut self, map: ClusterMap) -> Applied {
        let epoch = map.epoch;
        self.map = Some(map);
        Ok(Done::Map(epoch))
    }

    pub(super) fn put_access_key(&mut self, key: &AccessKey) -> Done {
        self.put(Table::Identities, key.id.as_bytes().to_vec(), key);
        Done::Nothing
    }

    pub(super) fn delete_access_key(&mut self, id: &str) -> Done {
        self.remove(Table::Identities, id.as_bytes().to_vec());
        Done::Nothing
    }
}
