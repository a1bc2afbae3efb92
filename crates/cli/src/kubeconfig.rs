//! Which server, as whom, in which namespace: the flags, then the kubeconfig, then the pod we run in.

use crate::failure::{Failure, chain};
use crate::proxy;
use clap::Args;
use http::Uri;
use kube_client::Config;
use kube_client::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::path::{Path, PathBuf};

/// What was typed about the server to talk to.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// The kubeconfig to use [default: $KUBECONFIG, else ~/.kube/config, else the service account of the pod we
    /// run in]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use [default: its current context]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace of the pod [default: that of the context, else `default`]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
}

/// What the program needs to reach a server.
#[derive(Debug)]
pub(crate) struct Target {
    /// For the connection: URL, trust, credentials.
    pub(crate) config: Config,
    /// The proxy in between.
    pub(crate) proxy: Option<Uri>,
    /// The namespace to work in.
    pub(crate) namespace: String,
    /// Where this came from, for messages.
    pub(crate) source: String,
}

impl ServerArgs {
    /// Reads the kubeconfig. Exec plugins and token files are run and read later, when the connection is made.
    pub(crate) async fn resolve(self) -> Result<Target, Failure> {
        let (config, proxy_url, source) = match self.read()? {
            Some((kubeconfig, files)) => {
                let context = self.context.clone().or_else(|| kubeconfig.current_context.clone());
                let context = context.filter(|name| !name.is_empty());
                let Some(context) = context else {
                    return Err(Failure::local(format!("{files} chooses no context"))
                        .next("pass --context NAME, or run `kubectl config use-context NAME`"));
                };
                let proxy_url = cluster_proxy(&kubeconfig, &context);
                let options = KubeConfigOptions { context: Some(context.clone()), ..Default::default() };
                let config = Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|error| unusable(&files, &error))?;
                (config, proxy_url, format!("context \"{context}\" of {files}"))
            }
            None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
                let config = Config::incluster_env()
                    .map_err(|error| Failure::local(format!("the service account: {}", chain(&error))))?;
                (config, None, "the service account of this pod".to_owned())
            }
            None => {
                return Err(Failure::local("no kubeconfig found").next(
                    "pass --kubeconfig FILE or set KUBECONFIG; `wsstream serve` prints the path of the one it writes",
                ));
            }
        };
        let proxy = match proxy_url {
            Some(text) => Some(
                proxy::parse(&text)
                    .ok_or_else(|| Failure::local(format!("{source}: proxy-url is not a URL: {text}")))?,
            ),
            None => proxy::from_env(&config.cluster_url, |name| std::env::var(name).ok())
                .map_err(Failure::local)?,
        };
        let namespace = self.namespace.unwrap_or_else(|| config.default_namespace.clone());
        Ok(Target { config, proxy, namespace, source })
    }

    /// The kubeconfig and the names of the files it was read from. Files of `$KUBECONFIG` that do not exist are
    /// skipped, as kubectl does.
    fn read(&self) -> Result<Option<(Kubeconfig, String)>, Failure> {
        if let Some(path) = &self.kubeconfig {
            return read_file(path).map(|config| Some((config, path.display().to_string())));
        }
        let listed: Vec<PathBuf> = match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
            Some(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
            None => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
        };
        let present: Vec<PathBuf> = listed.into_iter().filter(|path| path.exists()).collect();
        if present.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = present.iter().map(|path| path.display().to_string()).collect();
        let names = names.join(":");
        let mut merged = Kubeconfig::default();
        for path in &present {
            merged = merged.merge(read_file(path)?).map_err(|error| unusable(&names, &error))?;
        }
        Ok(Some((merged, names)))
    }
}

fn read_file(path: &Path) -> Result<Kubeconfig, Failure> {
    Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(error, path) => {
            Failure::local(format!("cannot read the kubeconfig {}: {error}", path.display()))
        }
        error => unusable(&path.display().to_string(), &error),
    })
}

fn unusable(files: &str, error: &KubeconfigError) -> Failure {
    match error {
        KubeconfigError::LoadContext(name) => Failure::local(format!("{files} has no context \"{name}\""))
            .next("`kubectl config get-contexts` lists those there are"),
        error => Failure::local(format!("{files}: {}", chain(error))),
    }
}

/// `proxy-url` of the cluster behind `context`. Looked up here because kube-client mixes it with the environment,
/// where other rules apply.
fn cluster_proxy(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}
