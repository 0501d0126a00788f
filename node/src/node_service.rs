//! Liveness: what a node tells its peers once a second.

use crate::drives::Drives;
use ashlar_metadata::MetadataNode;
use ashlar_placement::ClusterMap;
use ashlar_proto::node::{
    DriveHealth, GroupView, PingReply, PingRequest, node_service_server::NodeService as NodeServiceTrait,
};
use ashlar_types::NodeId;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

pub struct NodeService {
    pub node: NodeId,
    pub drives: Drives,
    pub metadata: Arc<MetadataNode>,
    pub map: watch::Receiver<Arc<ClusterMap>>,
}

#[tonic::async_trait]
impl NodeServiceTrait for NodeService {
    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        let drives = self.drives.iter().map(|(id, store)| {
            let health = Drives::health(store);
            DriveHealth {
                drive: id.0,
                condition: health.condition.into(),
                capacity_bytes: health.capacity_bytes,
                used_bytes: health.used_bytes,
                shards: health.shards,
            }
        });
        let groups = self.metadata.status().into_iter().map(|group| GroupView {
            group: group.group.0,
            leader: group.leader.map_or(0, |leader| leader.0),
            term: group.term,
            last_applied: group.last_applied.unwrap_or(0),
        });
        Ok(Response::new(PingReply {
            node: self.node.0,
            map_epoch: self.map.borrow().epoch.0,
            drives: drives.collect(),
            groups: groups.collect(),
        }))
    }
}
