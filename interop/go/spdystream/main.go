// Command spdystream is the SPDY library of every Kubernetes client and server without the layers above it: a server of
// small services, or a client that asks another implementation for the same services and checks what comes.
//
//	spdystream server            prints "listening on HOST:PORT" and ends when its input does
//	spdystream client HOST:PORT  prints one JSON object a line for each case, and one that counts them
//
// A stream names its service in the header "do": see serve.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/moby/spdystream"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 1 && args[0] == "server":
		err = listen()
	case len(args) > 1 && args[0] == "client":
		err = runCases(args[1], args[2:])
	default:
		err = fmt.Errorf("usage: spdystream server | client HOST:PORT [flags]")
	}
	if err != nil {
		log.Fatal(err)
	}
}

func listen() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		socket, err := listener.Accept()
		if err != nil {
			return err
		}
		connection, err := spdystream.NewConnection(socket, true)
		if err != nil {
			return err
		}
		s := &server{connection: connection}
		go connection.Serve(s.accept)
	}
}

type server struct {
	connection *spdystream.Connection
	// Streams of the service watch whose input has ended.
	ended atomic.Int64
}

// accept may not block: it is called by one of the five workers that read for all streams.
func (s *server) accept(stream *spdystream.Stream) {
	do := stream.Headers().Get("do")
	if do == "refuse" {
		_ = stream.Refuse()
		return
	}
	if err := stream.SendReply(http.Header{}, false); err != nil {
		log.Print(err)
		return
	}
	go func() {
		if err := s.serve(do, stream); err != nil {
			log.Printf("%s on stream %d: %v", do, stream.Identifier(), err)
		}
	}()
}

func (s *server) serve(do string, stream *spdystream.Stream) error {
	var err error
	switch do {
	case "echo":
		_, err = io.Copy(stream, stream)
	case "digest":
		// Answers behind the end of the input: only half of the stream is closed then.
		hash := sha256.New()
		var count int64
		if count, err = io.Copy(hash, stream); err == nil {
			_, err = fmt.Fprintf(stream, "%d %x", count, hash.Sum(nil))
		}
	case "reset":
		if _, err = io.WriteString(stream, "before"); err == nil {
			err = stream.Reset()
		}
		return err
	case "watch":
		// A reset is an end like any other to this library.
		_, _ = io.Copy(io.Discard, stream)
		s.ended.Add(1)
		return nil
	case "watched":
		_, err = fmt.Fprint(stream, s.ended.Load())
	case "ping":
		if _, err = s.connection.Ping(); err == nil {
			_, err = io.WriteString(stream, "pong")
		}
	case "goaway":
		err = s.connection.Close()
	default:
		err = fmt.Errorf("no such service")
	}
	if err != nil {
		_ = stream.Reset()
		return err
	}
	return stream.Close()
}
