// Command server is Go's side of the bench: the CRI streaming server of k8s.io/cri-streaming under the paths of an API
// server, with the tunnel of k8s.io/apiserver in front of port-forward. It does for a request what a kubelet does and no
// more, so that what is measured is upstream's code.
//
// Nobody is authenticated: whoever reaches the port runs commands, so it listens on loopback only.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/proxy"
	tunnel "k8s.io/apiserver/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

func main() {
	certificate := flag.String("tls-cert", "", "serve TLS with this certificate (PEM)")
	key := flag.String("tls-key", "", "and its key")
	flag.Parse()
	if err := run(*certificate, *key); err != nil {
		log.Fatal(err)
	}
}

func run(certificate, key string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config := streaming.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}
	streams, err := streaming.NewServer(config, runtime{})
	if err != nil {
		return err
	}
	go stopWithParent()
	fmt.Printf("listening on %s\n", listener.Addr())
	server := http.Server{Handler: front{streams}, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	if certificate != "" {
		return server.ServeTLS(listener, certificate, key)
	}
	return server.Serve(listener)
}

// stopWithParent ends the server when its input ends: whoever started it is gone.
func stopWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// front turns the paths of an API server into requests of the streaming server.
type front struct {
	streams streaming.Server
}

func (f front) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch {
	case strings.HasSuffix(req.URL.Path, "/exec"):
		query := req.URL.Query()
		on := func(name string) bool { return query.Get(name) == "true" }
		answer, err := f.streams.GetExec(&runtimeapi.ExecRequest{
			ContainerId: "host", Cmd: query["command"], Stdin: on("stdin"), Stdout: on("stdout"),
			Stderr: on("stderr") && !on("tty"), Tty: on("tty"),
		})
		f.stream(w, req, answer.GetUrl(), err)
	case strings.HasSuffix(req.URL.Path, "/portforward"):
		answer, err := f.streams.GetPortForward(&runtimeapi.PortForwardRequest{PodSandboxId: "host", Port: ports(req)})
		if err == nil && wsstream.IsWebSocketRequestWithTunnelingProtocol(req) {
			// In a cluster the API server unwraps the tunnel and speaks SPDY to the kubelet: so here, over loopback.
			location, err := url.Parse(answer.GetUrl())
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			inner := proxy.NewUpgradeAwareHandler(location, nil, false, true, failed{})
			tunnel.NewTunnelingHandler(inner).ServeHTTP(w, req)
			return
		}
		f.stream(w, req, answer.GetUrl(), err)
	default:
		f.streams.ServeHTTP(w, req)
	}
}

// ports are those that a client of WebSocket channels names; the others name them later.
func ports(req *http.Request) (ports []int32) {
	for _, text := range req.URL.Query()["ports"] {
		if port, err := strconv.ParseInt(text, 10, 32); err == nil {
			ports = append(ports, int32(port))
		}
	}
	return ports
}

// stream serves what was registered at the URL, without another connection.
func (f front) stream(w http.ResponseWriter, req *http.Request, at string, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	location, err := url.Parse(at)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	inner := req.Clone(req.Context())
	inner.URL = &url.URL{Path: location.Path}
	inner.RequestURI = location.Path
	f.streams.ServeHTTP(w, inner)
}

type failed struct{}

func (failed) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusBadGateway)
}
