package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/moby/spdystream"
)

const short = 30 * time.Second

type client struct {
	connection *spdystream.Connection
	big        int64
}

var cases = []struct {
	name string
	run  func(*client) error
}{
	{"two hundred streams at once", (*client).many},
	{"the answer comes behind the end of the input", (*client).halfClose},
	{"big both ways on one stream, hashed", (*client).large},
	{"a stream that the peer resets", (*client).resetByPeer},
	{"a stream that is reset tells the peer", (*client).resetHere},
	{"a stream that the peer refuses", (*client).refused},
	{"ping", (*client).ping},
	{"the peer's GOAWAY", (*client).goAway},
}

func runCases(address string, args []string) error {
	var group string
	var filters []string
	var big int64
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.StringVar(&group, "group", "", "what stands before the names of the cases")
	flags.String("folder", "", "taken and not used")
	flags.String("helper", "", "taken and not used")
	flags.Int64Var(&big, "big", 64<<20, "bytes of a big transfer")
	flags.Func("only", "a part of the names of the cases to run; may be repeated", func(text string) error {
		filters = append(filters, text)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	done := 0
	for _, one := range cases {
		wanted := len(filters) == 0
		for _, only := range filters {
			wanted = wanted || strings.Contains(group+"/"+one.name, only)
		}
		if !wanted {
			continue
		}
		started := time.Now()
		report := map[string]any{"case": one.name, "why": nil}
		if err := runCase(address, big, one.run); err != nil {
			report["why"] = err.Error()
		}
		report["seconds"] = time.Since(started).Seconds()
		if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
			return err
		}
		done++
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int{"done": done})
}

// runCase gives each case a connection of its own, and ends it in order.
func runCase(address string, big int64, run func(*client) error) error {
	socket, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer socket.Close()
	connection, err := spdystream.NewConnection(socket, false)
	if err != nil {
		return err
	}
	connection.SetCloseTimeout(short)
	go connection.Serve(spdystream.NoOpStreamHandler)
	ended := make(chan error, 1)
	go func() { ended <- run(&client{connection, big}) }()
	select {
	case err = <-ended:
	case <-time.After(2 * short):
		err = errors.New("not done in time")
	}
	if err != nil {
		return err
	}
	return connection.CloseWait()
}

func (c *client) open(do string) (*spdystream.Stream, error) {
	// More than one header, and one that the library joins with a NUL.
	headers := http.Header{"Do": {do}, "Streamtype": {"data"}, "Twice": {"one", "two"}}
	stream, err := c.connection.CreateStream(headers, nil, false)
	if err != nil {
		return nil, err
	}
	return stream, stream.WaitTimeout(short)
}

// ask opens a stream, sends all of the input and its end, and reads to the end.
func (c *client) ask(do string, input []byte) (string, error) {
	stream, err := c.open(do)
	if err != nil {
		return "", err
	}
	if _, err := stream.Write(input); err != nil {
		return "", err
	}
	if err := stream.Close(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(stream)
	return string(answer), err
}

func (c *client) expect(do string, input []byte, want string) error {
	answer, err := c.ask(do, input)
	if err == nil && answer != want {
		err = fmt.Errorf("%q expected, got %q", want, answer)
	}
	return err
}

func (c *client) many() error {
	const streams = 200
	results := make(chan error, streams)
	for number := range streams {
		go func() {
			words := bytes.Repeat(fmt.Appendf(nil, "stream %d\n", number), 100)
			results <- c.expect("echo", words, string(words))
		}()
	}
	var all []error
	for range streams {
		all = append(all, <-results)
	}
	return errors.Join(all...)
}

func (c *client) halfClose() error {
	// One frame, larger than any buffer of the peer.
	data := make([]byte, 3<<20+1)
	_, _ = rand.Read(data)
	return c.expect("digest", data, fmt.Sprintf("%d %x", len(data), sha256.Sum256(data)))
}

func (c *client) large() error {
	stream, err := c.open("echo")
	if err != nil {
		return err
	}
	sent, got := sha256.New(), sha256.New()
	failed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.MultiWriter(stream, sent), io.LimitReader(rand.Reader, c.big))
		failed <- errors.Join(err, stream.Close())
	}()
	count, err := io.Copy(got, stream)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	if count != c.big || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		return fmt.Errorf("%d of %d bytes came, or they differ", count, c.big)
	}
	return nil
}

func (c *client) resetByPeer() error {
	stream, err := c.open("reset")
	if err != nil {
		return err
	}
	if answer, err := io.ReadAll(stream); err != nil || string(answer) != "before" {
		return fmt.Errorf("what was sent before the reset is expected, got %q and %v", answer, err)
	}
	return c.expect("echo", []byte("alive"), "alive")
}

func (c *client) resetHere() error {
	stream, err := c.open("watch")
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stream, "some"); err != nil {
		return err
	}
	if err := stream.Reset(); err != nil {
		return err
	}
	for deadline := time.Now().Add(short); ; {
		answer, err := c.ask("watched", nil)
		if err != nil || answer == "1" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the peer has seen %s ends", answer)
		}
	}
}

func (c *client) refused() error {
	if _, err := c.open("refuse"); !errors.Is(err, spdystream.ErrReset) {
		return fmt.Errorf("a reset expected, got %v", err)
	}
	return c.expect("echo", []byte("alive"), "alive")
}

func (c *client) ping() error {
	for range 10 {
		if _, err := c.connection.Ping(); err != nil {
			return err
		}
	}
	return c.expect("echo", []byte("alive"), "alive")
}

func (c *client) goAway() error {
	last := make(chan *spdystream.Stream, 1)
	c.connection.NotifyClose(last, short)
	// Nothing is written: the library drops the connection on GOAWAY.
	if _, err := c.open("goaway"); err != nil {
		return err
	}
	select {
	case <-last:
		return nil
	case <-time.After(short):
		return errors.New("no GOAWAY came")
	}
}
