//! `create job`: a job of a CronJob, now.

use clap::{Args, Subcommand};
use hyper::Method;

use super::choose::workload_name;
use super::connection::{Call, Client};
use super::{lookup, print};
use crate::api::jobs::SpawnRequest;
use crate::api::types::Changed;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub enum Create {
    /// Make a job of a CronJob now, whatever its schedule and its concurrency policy
    Job(CreateJob),
}

#[derive(Debug, Clone, Args)]
pub struct CreateJob {
    /// Name of the new job
    pub name: String,
    /// CronJob to make it of
    #[arg(long, value_name = "CRONJOB", value_parser = workload_name)]
    pub from: String,
}

/// `create`.
pub async fn create(client: &Client, what: &Create) -> Result<u8> {
    let Create::Job(a) = what;
    let call = Call::new(Method::POST, lookup::path(&a.from) + "/jobs");
    let request = SpawnRequest { name: a.name.clone() };
    let _: Changed = client.fetch(call.json(&request)).await?;
    print(&format!("job/{} created\n", a.name))?;
    Ok(0)
}
