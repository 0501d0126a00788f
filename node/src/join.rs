//! Joining: a node without an identity asks a member to be taken in, with a one-time token.

use crate::{
    admin::with_causes,
    config::check_advertised,
    credentials::token_hash,
    shard_wire,
    tls::{LIFE, Renewal},
};
use ashlar_metadata::{
    MetadataApi,
    command::{Command, Done, JoinDrive, JoinNode, Refusal, SystemCommand},
};
use ashlar_placement::Labels;
use ashlar_proto::node::{
    JoinReply, JoinRequest, JoinedDrive,
    join_service_server::{JoinService as JoinServiceTrait, JoinServiceServer},
};
use ashlar_runtime::Env;
use ashlar_types::{ClusterId, DriveUuid, GroupId};
use std::{sync::Arc, time::Duration};
use tonic::{Request, Response, Status};

const JOIN_DEADLINE: Duration = Duration::from_secs(20);
/// Drives of one node; more than any chassis holds.
const DRIVES_MAX: usize = 256;

struct JoinService {
    metadata: Arc<dyn MetadataApi>,
    env: Env,
    cluster: ClusterId,
    renewal: Arc<Renewal>,
}

pub fn service(
    metadata: Arc<dyn MetadataApi>,
    env: Env,
    cluster: ClusterId,
    renewal: Arc<Renewal>,
) -> JoinServiceServer<impl JoinServiceTrait> {
    JoinServiceServer::new(JoinService { metadata, env, cluster, renewal })
}

pub fn uuid(bytes: &[u8]) -> Result<DriveUuid, Status> {
    let raw = bytes.try_into().map_err(|_| Status::invalid_argument("a drive uuid has 16 bytes"))?;
    Ok(DriveUuid(u128::from_be_bytes(raw)))
}

#[tonic::async_trait]
impl JoinServiceTrait for JoinService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let request = request.into_inner();
        if request.drives.len() > DRIVES_MAX {
            return Err(Status::invalid_argument("too many drives"));
        }
        let public_key: [u8; 32] = request.public_key[..]
            .try_into()
            .map_err(|_| Status::invalid_argument("a public key has 32 bytes"))?;
        check_advertised(&request.rpc).map_err(Status::invalid_argument)?;
        let drives = request
            .drives
            .iter()
            .map(|drive| Ok(JoinDrive { uuid: uuid(&drive.uuid)?, capacity_bytes: drive.capacity_bytes }));
        let command = SystemCommand::JoinNode(JoinNode {
            token_hash: token_hash(&request.token),
            rpc: request.rpc,
            s3: request.s3,
            labels: Labels { rack: request.rack, zone: request.zone },
            drives: drives.collect::<Result<_, Status>>()?,
        });
        let unavailable = |error: ashlar_metadata::MetadataError| Status::unavailable(error.to_string());
        let id = self.metadata.begin(GroupId::SYSTEM).await.map_err(unavailable)?;
        let outcome = self
            .metadata
            .propose(GroupId::SYSTEM, Some(id), Command::System(command), JOIN_DEADLINE)
            .await
            .map_err(unavailable)?;
        match outcome {
            Ok(Done::Joined { node, drives, map }) => {
                tracing::info!(node = node.0, "a node joined");
                let drives = drives
                    .iter()
                    .map(|(uuid, id)| JoinedDrive { uuid: uuid.0.to_be_bytes().to_vec().into(), id: id.0 });
                let authority = &self.renewal.current().authority;
                let issued = authority
                    .issue(node, &public_key, self.env.clock.wall(), LIFE)
                    .map_err(|error| Status::internal(with_causes(&error)))?;
                Ok(Response::new(JoinReply {
                    cluster: self.cluster.0.to_be_bytes().to_vec().into(),
                    node: node.0,
                    drives: drives.collect(),
                    map: shard_wire::encode(&*map),
                    authority: authority.certificate().to_vec().into(),
                    authority_key: authority.key().seed().to_vec().into(),
                    certificate: issued.certificate.into(),
                    issued_ms: issued.at.0,
                    expires_ms: issued.expires.0,
                }))
            }
            Err(Refusal::BadToken) => Err(Status::permission_denied(
                "the join token is unknown, used or expired: make another with `ashlar cluster token` on a member",
            )),
            Err(Refusal::DriveKnownElsewhere { uuid }) => {
                Err(Status::already_exists(format!("drive {uuid} belongs to another node of the cluster")))
            }
            other => {
                tracing::error!(?other, "joining was answered in a way it cannot be");
                Err(Status::internal("unexpected outcome"))
            }
        }
    }
}
