package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	translator "k8s.io/apiserver/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// The one pod that exists.
const pod = "host"

// front answers what a client asks of an API server and hands the stream to Go's own code: v5 to the API server's
// translator, which speaks SPDY to the streaming server; everything else to the streaming server, directly or
// through the byte proxy. A cluster has a kubelet in between, which is one more byte proxy.
type front struct {
	streams streaming.Server
	proxied bool
}

func newFront(streams streaming.Server, proxied bool) http.Handler {
	f := &front{streams: streams, proxied: proxied}
	mux := http.NewServeMux()
	const path = "/api/v1/namespaces/default/pods/{pod}"
	mux.HandleFunc("GET "+path, f.describe)
	mux.HandleFunc(path+"/exec", f.exec)
	mux.HandleFunc(path+"/attach", f.attach)
	// The streaming server's own routes, with their tokens.
	mux.Handle("/exec/", streams)
	mux.Handle("/attach/", streams)
	return mux
}

func (f *front) describe(w http.ResponseWriter, req *http.Request) {
	if !known(w, req) {
		return
	}
	answer(w, http.StatusOK, corev1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: "default"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Stdin: true}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	})
}

func (f *front) exec(w http.ResponseWriter, req *http.Request) {
	if !known(w, req) {
		return
	}
	want := wants(req)
	response, err := f.streams.GetExec(&runtimeapi.ExecRequest{
		ContainerId: pod,
		Cmd:         req.URL.Query()["command"],
		Tty:         want.Tty,
		Stdin:       want.Stdin,
		Stdout:      want.Stdout,
		Stderr:      want.Stderr,
	})
	f.stream(w, req, response.GetUrl(), want, err)
}

func (f *front) attach(w http.ResponseWriter, req *http.Request) {
	if !known(w, req) {
		return
	}
	want := wants(req)
	response, err := f.streams.GetAttach(&runtimeapi.AttachRequest{
		ContainerId: pod,
		Tty:         want.Tty,
		Stdin:       want.Stdin,
		Stdout:      want.Stdout,
		Stderr:      want.Stderr,
	})
	f.stream(w, req, response.GetUrl(), want, err)
}

// stream serves what was registered at the URL.
func (f *front) stream(w http.ResponseWriter, req *http.Request, at string, want translator.Options, err error) {
	if err != nil {
		refuse(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	location, err := url.Parse(at)
	if err != nil {
		refuse(w, apierrors.NewInternalError(err))
		return
	}
	switch {
	case wsstream.IsWebSocketRequestWithStreamCloseProtocol(req):
		translator.NewStreamTranslatorHandler(location, nil, 0, want).ServeHTTP(w, req)
	case f.proxied:
		proxy.NewUpgradeAwareHandler(location, nil, false, true, responder{}).ServeHTTP(w, req)
	default:
		inner := req.Clone(req.Context())
		inner.URL = &url.URL{Path: location.Path}
		inner.RequestURI = location.Path
		f.streams.ServeHTTP(w, inner)
	}
}

// wants reads the query as the API server does: a flag is on unless it is absent, "0" or "false". The kubelet drops
// stderr where there is a terminal.
func wants(req *http.Request) translator.Options {
	query := req.URL.Query()
	on := func(name string) bool {
		values := query[name]
		return len(values) > 0 && values[0] != "0" && !strings.EqualFold(values[0], "false")
	}
	tty := on("tty")
	return translator.Options{Stdin: on("stdin"), Stdout: on("stdout"), Stderr: on("stderr") && !tty, Tty: tty}
}

func known(w http.ResponseWriter, req *http.Request) bool {
	name := req.PathValue("pod")
	if name == pod {
		return true
	}
	refuse(w, apierrors.NewNotFound(corev1.Resource("pods"), name))
	return false
}

// responder reports what the byte proxy could not do.
type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	refuse(w, status)
}

func refuse(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	answer(w, int(status.Code), status)
}

func answer(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}
