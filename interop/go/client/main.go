// Command client runs exec and attach with client-go's own executors for WebSocket and SPDY, the library inside kubectl
// and most Go programs, and says how it ended in client-go's own words. It decides nothing by itself: what the interop cases
// and the fault sweeps see is what any program built on client-go would see.
//
// Exit codes: the remote one where client-go reports one; 1 for any other error; 2 for a wrong command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
)

type options struct {
	kubeconfig, namespace, container, transport, protocol, prefix, token string
	attach, stdin, tty                                                   bool
	sizes                                                                *sizeQueue
	pod                                                                  string
	command                                                              []string
}

func main() {
	opts, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(report(run(opts), opts.prefix))
}

// report prints the error as it is, behind the prefix; kubectl prints the same text for an exit code.
func report(err error, prefix string) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s%v\n", prefix, err)
	var exit utilexec.CodeExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	return 1
}

func parse(args []string) (*options, error) {
	var opts options
	var sizes, next string
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.StringVar(&opts.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "the kubeconfig to use")
	flags.StringVar(&opts.namespace, "namespace", "default", "the namespace of the pod")
	flags.StringVar(&opts.container, "container", "", "the container; empty: the server's choice")
	flags.StringVar(&opts.transport, "transport", "websocket", "websocket or spdy")
	flags.StringVar(&opts.protocol, "protocol", "", "what to offer: v5, v4, v3, v2, v1 or whole names, comma-separated; empty: what client-go's executor offers by default")
	flags.StringVar(&opts.prefix, "prefix", "", "what stands before an error on standard error, to tell it from the command's words")
	flags.StringVar(&opts.token, "token", "", "the bearer token; client-go takes one from a kubeconfig for https only")
	flags.BoolVar(&opts.attach, "attach", false, "attach instead of exec")
	flags.BoolVar(&opts.stdin, "stdin", false, "send standard input")
	flags.BoolVar(&opts.tty, "tty", false, "ask for a terminal; the local one is left alone")
	flags.StringVar(&sizes, "sizes", "", "sizes of that terminal, comma-separated WIDTHxHEIGHT; the first is sent at once")
	flags.StringVar(&next, "next-size-at", "", "each time this text is in the output, the next size is sent")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: client [flags] POD -- COMMAND...")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	// What follows the pod, less the marker that flag leaves in place behind a positional argument.
	words := flags.Args()
	if len(words) == 0 {
		return nil, errors.New("a pod is required")
	}
	opts.pod, opts.command = words[0], words[1:]
	if len(opts.command) > 0 && opts.command[0] == "--" {
		opts.command = opts.command[1:]
	}
	var err error
	opts.sizes, err = newSizeQueue(sizes, next)
	return &opts, err
}

func run(opts *options) error {
	config, err := clientcmd.BuildConfigFromFlags("", opts.kubeconfig)
	if err != nil {
		return err
	}
	if opts.token != "" {
		config.BearerToken = opts.token
	}
	executor, err := newExecutor(config, opts)
	if err != nil {
		return err
	}
	stream := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: opts.tty}
	if opts.stdin {
		stream.Stdin = os.Stdin
	}
	if opts.tty {
		stream.TerminalSizeQueue = opts.sizes
		stream.Stdout = io.MultiWriter(os.Stdout, opts.sizes)
	} else {
		stream.Stderr = os.Stderr
	}
	return executor.StreamWithContext(context.Background(), stream)
}

func newExecutor(config *rest.Config, opts *options) (remotecommand.Executor, error) {
	target, err := endpoint(config.Host, opts)
	if err != nil {
		return nil, err
	}
	var offered []string
	if opts.protocol != "" {
		for _, name := range strings.Split(opts.protocol, ",") {
			offered = append(offered, protocolName(name))
		}
	}
	switch opts.transport {
	case "websocket":
		if offered == nil {
			return remotecommand.NewWebSocketExecutor(config, "GET", target)
		}
		return remotecommand.NewWebSocketExecutorForProtocols(config, "GET", target, offered...)
	case "spdy":
		base, err := url.Parse(target)
		if err != nil {
			return nil, err
		}
		if offered == nil {
			return remotecommand.NewSPDYExecutor(config, "POST", base)
		}
		transport, upgrader, err := spdy.RoundTripperFor(config)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutorForProtocols(transport, upgrader, "POST", base, offered...)
	default:
		return nil, fmt.Errorf("%q is no transport", opts.transport)
	}
}

func protocolName(word string) string {
	switch word {
	case "v1":
		return "channel.k8s.io"
	case "v2", "v3", "v4", "v5":
		return word + ".channel.k8s.io"
	default:
		return word
	}
}

// endpoint is the URL that kubectl would use: false parameters are left out.
func endpoint(host string, opts *options) (string, error) {
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	base, err := url.Parse(host)
	if err != nil {
		return "", err
	}
	verb, query := "exec", url.Values{"stdout": {"true"}}
	if opts.attach {
		verb = "attach"
	} else {
		query["command"] = opts.command
	}
	if opts.container != "" {
		query.Set("container", opts.container)
	}
	for name, on := range map[string]bool{"stdin": opts.stdin, "tty": opts.tty, "stderr": !opts.tty} {
		if on {
			query.Set(name, "true")
		}
	}
	target := base.JoinPath("api/v1/namespaces", opts.namespace, "pods", opts.pod, verb)
	target.RawQuery = query.Encode()
	return target.String(), nil
}
