// Command server puts Go's own streaming stack on one port of the loopback interface: the CRI streaming server of
// k8s.io/cri-streaming, addressed as an API server is. It is the other side for our client, and the reference for
// the same faults that our server is put through.
//
// Nobody is authenticated: whoever reaches the port runs commands, so it listens on loopback only.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"k8s.io/cri-streaming/pkg/streaming"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on; loopback only")
	kubeconfig := flag.String("kubeconfig", "", "write a kubeconfig here, complete and atomically, once the server accepts")
	proxied := flag.Bool("proxied", false, "put the byte proxy of the API server and the kubelet in front of what it does not translate, as a cluster does")
	via := flag.String("via", "", "HOST:PORT by which translator and byte proxy reach the streaming server, such as a fault injector in front of this one [default: directly]")
	idle := flag.Duration("idle", 4*time.Hour, "idle timeout of a stream; upstream's default is 4h")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: server [flags] [-- COMMAND...]\nattach runs COMMAND, anew for each session [default: cat]")
		flag.PrintDefaults()
	}
	flag.Parse()
	command := flag.Args()
	if len(command) == 0 {
		command = []string{"cat"}
	}
	if err := run(*listen, *kubeconfig, *proxied, *via, *idle, command); err != nil {
		log.Fatal(err)
	}
}

func run(listen, kubeconfig string, proxied bool, via string, idle time.Duration, command []string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	address := listener.Addr().(*net.TCPAddr)
	if !address.IP.IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", address)
	}
	config := streaming.DefaultConfig
	config.StreamIdleTimeout = idle
	config.BaseURL = &url.URL{Scheme: "http", Host: address.String(), Path: "/"}
	if via != "" {
		config.BaseURL.Host = via
	}
	server, err := streaming.NewServer(config, hostRuntime{main: command})
	if err != nil {
		return err
	}
	// The listener queues connections from here on, so whoever reads these may connect.
	base := "http://" + address.String()
	if kubeconfig != "" {
		if err := writeKubeconfig(kubeconfig, base); err != nil {
			return err
		}
	}
	fmt.Printf("listening on %s\n", base)
	go stopWithParent()
	return http.Serve(listener, newFront(server, proxied))
}

// stopWithParent ends the server when its input ends: whoever started it with a pipe is gone. A terminal or
// /dev/null says nothing about that.
func stopWithParent() {
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

const kubeconfigText = `apiVersion: v1
kind: Config
clusters: [{name: go, cluster: {server: %q}}]
users: [{name: nobody, user: {}}]
contexts: [{name: go, context: {cluster: go, user: nobody, namespace: default}}]
current-context: go
`

func writeKubeconfig(path, base string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, kubeconfigText, base)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
