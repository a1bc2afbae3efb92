// Command cri asks a container runtime over gRPC for an exec, an attach or a port-forward and goes to the URL that it is
// given with client-go, as crictl does and with crictl's arguments. crictl is no library; this stands in for it where it
// is not installed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"
)

type options struct {
	endpoint, transport string
	stdin, tty          bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var opts options
	global := flag.NewFlagSet("cri", flag.ContinueOnError)
	global.StringVar(&opts.endpoint, "runtime-endpoint", "", "the runtime's socket, unix://PATH")
	global.String("image-endpoint", "", "taken and not used")
	if err := global.Parse(args); err != nil {
		return err
	}
	if global.NArg() == 0 {
		return errors.New("usage: cri --runtime-endpoint URL exec|attach|port-forward [flags] ID [WORD...]")
	}
	flags := flag.NewFlagSet(global.Arg(0), flag.ContinueOnError)
	flags.StringVar(&opts.transport, "transport", "spdy", "spdy or websocket")
	flags.BoolVar(&opts.stdin, "i", false, "send standard input")
	flags.BoolVar(&opts.tty, "t", false, "ask for a terminal")
	if err := flags.Parse(global.Args()[1:]); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("an id is required")
	}
	connection, err := grpc.NewClient(opts.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := runtime.NewRuntimeServiceClient(connection)
	asking, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	id, words := flags.Arg(0), flags.Args()[1:]
	switch global.Arg(0) {
	case "exec":
		answer, err := client.Exec(asking, &runtime.ExecRequest{
			ContainerId: id, Cmd: words, Tty: opts.tty, Stdin: opts.stdin, Stdout: true, Stderr: !opts.tty,
		})
		if err != nil {
			return err
		}
		return opts.stream(answer.Url)
	case "attach":
		answer, err := client.Attach(asking, &runtime.AttachRequest{
			ContainerId: id, Tty: opts.tty, Stdin: opts.stdin, Stdout: true, Stderr: !opts.tty,
		})
		if err != nil {
			return err
		}
		return opts.stream(answer.Url)
	case "port-forward":
		answer, err := client.PortForward(asking, &runtime.PortForwardRequest{PodSandboxId: id})
		if err != nil {
			return err
		}
		return opts.forward(answer.Url, words)
	default:
		return fmt.Errorf("unknown command %q", global.Arg(0))
	}
}

func (opts *options) stream(target string) error {
	config := &rest.Config{}
	location, err := url.Parse(target)
	if err != nil {
		return err
	}
	var executor remotecommand.Executor
	if opts.transport == "websocket" {
		executor, err = remotecommand.NewWebSocketExecutor(config, "GET", target)
	} else {
		executor, err = remotecommand.NewSPDYExecutor(config, "POST", location)
	}
	if err != nil {
		return err
	}
	streams := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: opts.tty}
	if opts.stdin {
		streams.Stdin = os.Stdin
	}
	if opts.tty {
		terminal := int(os.Stdin.Fd())
		before, err := term.MakeRaw(terminal)
		if err != nil {
			return err
		}
		defer term.Restore(terminal, before)
		streams.TerminalSizeQueue = newSizes(terminal)
	} else {
		streams.Stderr = os.Stderr
	}
	return executor.StreamWithContext(context.Background(), streams)
}

func (opts *options) forward(target string, ports []string) error {
	config := &rest.Config{}
	location, err := url.Parse(target)
	if err != nil {
		return err
	}
	var dialer httpstream.Dialer
	if opts.transport == "websocket" {
		dialer, err = portforward.NewSPDYOverWebsocketDialerForStreaming(location, config)
	} else {
		var transport http.RoundTripper
		var upgrader spdy.Upgrader
		transport, upgrader, err = spdy.RoundTripperFor(config)
		if err == nil {
			dialer = spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", location)
		}
	}
	if err != nil {
		return err
	}
	interrupted, stop := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupted, os.Interrupt)
	go func() {
		<-interrupted
		close(stop)
	}()
	forwarder, err := portforward.NewForStreaming(dialer, ports, stop, make(chan struct{}), os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	return forwarder.ForwardPorts()
}

// sizes tells the size of the terminal, now and whenever it changes.
type sizes struct {
	terminal int
	changed  chan os.Signal
}

func newSizes(terminal int) *sizes {
	queue := &sizes{terminal: terminal, changed: make(chan os.Signal, 1)}
	signal.Notify(queue.changed, syscall.SIGWINCH)
	queue.changed <- syscall.SIGWINCH
	return queue
}

func (queue *sizes) Next() *remotecommand.TerminalSize {
	<-queue.changed
	width, height, err := term.GetSize(queue.terminal)
	if err != nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: uint16(width), Height: uint16(height)}
}
