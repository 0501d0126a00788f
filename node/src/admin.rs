//! The operator's calls, over the unix socket in the data directory; whoever can open it may do everything.

use crate::{
    bucket_admin,
    explain::explain,
    forming::{Choices, FormError, GROUPS_DEFAULT},
    group_admin,
    node::Shared,
    running::Running,
    status::status,
};
use ashlar_proto::admin::{
    self as wire,
    admin_service_server::{AdminService as AdminServiceTrait, AdminServiceServer},
};
use ashlar_types::{BucketName, ObjectError, ObjectKey, service::Quota, service::User};
use std::{sync::Arc, time::Duration};
use tonic::{Request, Response, Status};

struct AdminService {
    shared: Arc<Shared>,
}

pub(crate) fn service(shared: Arc<Shared>) -> AdminServiceServer<impl AdminServiceTrait> {
    AdminServiceServer::new(AdminService { shared })
}

impl AdminService {
    fn running(&self) -> Result<&Arc<Running>, Status> {
        self.shared.running.get().ok_or_else(|| failed(&FormError::Unformed))
    }
}

fn failed(error: &FormError) -> Status {
    let text = with_causes(error);
    match error {
        FormError::Metadata(_) => Status::unavailable(text),
        FormError::AlreadyFormed(_)
        | FormError::Unformed
        | FormError::AlreadyBootstrapped(_)
        | FormError::BadProfile(_)
        | FormError::TooFewDrives { .. }
        | FormError::NoDrives
        | FormError::MapChanged
        | FormError::Refused { .. }
        | FormError::BadToken
        | FormError::Tls(_)
        | FormError::Capacity(_)
        | FormError::Start(_)
        | FormError::Identity(_) => Status::failed_precondition(text),
    }
}

/// The error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tonic::async_trait]
impl AdminServiceTrait for AdminService {
    async fn init(&self, request: Request<wire::InitRequest>) -> Result<Response<wire::InitReply>, Status> {
        let request = request.into_inner();
        let formed = self.shared.init(&request.access_key, &request.secret_key).await;
        let formed = formed.map_err(|error| failed(&error))?;
        Ok(Response::new(wire::InitReply {
            cluster: formed.cluster.to_string(),
            node: formed.node.0,
            access_key: formed.root.id,
            secret_key: formed.root.secret,
            join_token: formed.join_token,
        }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let request = request.into_inner();
        let running =
            self.shared.join(&request.peer, &request.token).await.map_err(|error| failed(&error))?;
        Ok(Response::new(wire::JoinReply {
            cluster: running.identity.cluster.to_string(),
            node: running.identity.node.0,
        }))
    }

    async fn bootstrap(
        &self,
        request: Request<wire::BootstrapRequest>,
    ) -> Result<Response<wire::BootstrapReply>, Status> {
        let request = request.into_inner();
        let choices = Choices {
            profile: (!request.profile.is_empty()).then_some(request.profile),
            groups: Some(if request.groups == 0 { GROUPS_DEFAULT } else { request.groups }),
            read_grace: request.read_grace_ms.map(Duration::from_millis),
        };
        let settled = self.running()?.bootstrap(&choices).await.map_err(|error| failed(&error))?;
        Ok(Response::new(wire::BootstrapReply {
            profile: settled.profile.to_string(),
            domain: format!("{:?}", settled.profile.domain).to_lowercase(),
            groups: settled.groups,
            voters: u32::try_from(settled.voters).unwrap_or(u32::MAX),
            placement_groups: u32::try_from(settled.placement_groups).unwrap_or(u32::MAX),
            warnings: settled.warnings,
        }))
    }

    async fn token(&self, _: Request<wire::TokenRequest>) -> Result<Response<wire::TokenReply>, Status> {
        let join_token = self.running()?.new_token().await.map_err(|error| failed(&error))?;
        Ok(Response::new(wire::TokenReply { join_token }))
    }

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        Ok(Response::new(status(&self.shared)))
    }

    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::ExplainReply>, Status> {
        let request = request.into_inner();
        let invalid = |error: String| Status::invalid_argument(error);
        let bucket = BucketName::parse(&request.bucket).map_err(|error| invalid(error.to_string()))?;
        let key = ObjectKey::parse(&request.key).map_err(|error| invalid(error.to_string()))?;
        let version = match request.version.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| invalid(format!("`{text}` is not a version id")))?),
        };
        let reply = explain(self.running()?, &bucket, &key, version).await;
        reply.map(Response::new).map_err(|error| Status::not_found(error.to_string()))
    }

    async fn create_user(
        &self,
        request: Request<wire::CreateUserRequest>,
    ) -> Result<Response<wire::CreateUserReply>, Status> {
        let request = request.into_inner();
        if request.id.is_empty() {
            return Err(Status::invalid_argument("a user needs an id: pass --id"));
        }
        let display_name =
            if request.display_name.is_empty() { request.id.clone() } else { request.display_name };
        let user = User { id: request.id, display_name, email: request.email };
        let key = self.running()?.create_user(user, &request.access_key, &request.secret_key).await;
        let key = key.map_err(|error| failed(&error))?;
        Ok(Response::new(wire::CreateUserReply {
            id: key.user.id,
            access_key: key.id,
            secret_key: key.secret,
        }))
    }

    async fn groups(
        &self,
        _request: Request<wire::GroupsRequest>,
    ) -> Result<Response<wire::GroupsReply>, Status> {
        Ok(Response::new(group_admin::groups(self.running()?).await))
    }

    async fn bucket_stats(
        &self,
        request: Request<wire::BucketStatsRequest>,
    ) -> Result<Response<wire::BucketStatsReply>, Status> {
        let name = bucket(&request.into_inner().bucket)?;
        let stats = bucket_admin::stats(self.running()?, &name).await;
        stats.map(Response::new).map_err(|error| refused(&name, &error))
    }

    async fn set_bucket_quota(
        &self,
        request: Request<wire::SetBucketQuotaRequest>,
    ) -> Result<Response<wire::BucketStatsReply>, Status> {
        let request = request.into_inner();
        let name = bucket(&request.bucket)?;
        let quota = Quota { bytes: request.bytes, objects: request.objects };
        let set = bucket_admin::set_quota(self.running()?, &name, quota).await;
        set.map_err(|error| refused(&name, &error))?;
        let stats = bucket_admin::stats(self.running()?, &name).await;
        stats.map(Response::new).map_err(|error| refused(&name, &error))
    }
}

fn bucket(text: &str) -> Result<BucketName, Status> {
    BucketName::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn refused(bucket: &BucketName, error: &ObjectError) -> Status {
    let text = format!("bucket {bucket}: {error}");
    if matches!(error, ObjectError::NoSuchBucket) {
        Status::not_found(text)
    } else {
        Status::unavailable(text)
    }
}
