//! What kubectl prints when something is wrong must name the cause.

use anyhow::Result;

use super::Kubectl;

pub(super) async fn token(kubectl: &Kubectl) -> Result<()> {
    for args in [
        &["--token=wrong", "get", "pods"][..],
        &["--token=wrong", "exec", "host", "--", "true"],
        &["--token=wrong", "logs", "story"],
    ] {
        kubectl.run(args).await?.code(1)?.stdout("")?.stderr_has(&["Unauthorized"])?;
    }
    Ok(())
}

pub(super) async fn pod(kubectl: &Kubectl) -> Result<()> {
    for args in [
        &["exec", "nobody", "--", "true"][..],
        &["attach", "nobody"],
        &["logs", "nobody"],
        &["get", "pod", "nobody"],
        &["cp", "nobody:/etc/hostname", "/dev/null"],
    ] {
        kubectl.run(args).await?.code(1)?.stderr_has(&["pods \"nobody\" not found"])?;
    }
    Ok(())
}

pub(super) async fn container(kubectl: &Kubectl) -> Result<()> {
    for args in [
        &["exec", "two", "-c", "third", "--", "true"][..],
        &["attach", "two", "-c", "third"],
        &["logs", "two", "-c", "third"],
    ] {
        kubectl.run(args).await?.code(1)?.stderr_has(&["container", "third"])?;
    }
    Ok(())
}

pub(super) async fn namespace(kubectl: &Kubectl) -> Result<()> {
    kubectl
        .run(&["-n", "elsewhere", "exec", "host", "--", "true"])
        .await?
        .code(1)?
        .stderr_has(&["not found"])?;
    kubectl
        .run(&["-n", "elsewhere", "get", "pods"])
        .await?
        .code(0)?
        .stdout("")?
        .stderr_has(&["No resources found"])?;
    Ok(())
}
