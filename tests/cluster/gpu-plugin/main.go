// Command gpu-plugin is a device plugin of GPUs that do not exist: the kubelet counts, allocates and aligns them as
// it does real ones. gpu-plugin ID@NUMA…
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource = "nvidia.com/gpu"
	socket   = "filstar-gpu.sock"
	// What NVIDIA's own plugin tells containers, and what a sealer reads back.
	variable = "NVIDIA_VISIBLE_DEVICES"
)

// server answers the kubelet. Its devices never change.
type server struct {
	api.UnimplementedDevicePluginServer
	devices []*api.Device
}

func (s *server) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (s *server) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	if err := stream.Send(&api.ListAndWatchResponse{Devices: s.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (s *server) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &api.ContainerAllocateResponse{
			Envs: map[string]string{variable: strings.Join(container.DevicesIds, ",")},
		})
	}
	return response, nil
}

// parse reads ID@NUMA.
func parse(text string) (*api.Device, error) {
	id, numa, ok := strings.Cut(text, "@")
	node, err := strconv.ParseInt(numa, 10, 64)
	if !ok || err != nil || id == "" {
		return nil, fmt.Errorf("%q is not ID@NUMA", text)
	}
	topology := &api.TopologyInfo{Nodes: []*api.NUMANode{{ID: node}}}
	return &api.Device{ID: id, Health: api.Healthy, Topology: topology}, nil
}

// run serves until the kubelet forgets us, which it does when it starts anew and clears its folder.
func run(directory string, devices []*api.Device) error {
	path := filepath.Join(directory, socket)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	plugin := grpc.NewServer()
	defer plugin.Stop()
	api.RegisterDevicePluginServer(plugin, &server{devices: devices})
	ended := make(chan error, 1)
	go func() { ended <- plugin.Serve(listener) }()
	if err := register(directory); err != nil {
		return err
	}
	log.Printf("registered %d of %s", len(devices), resource)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ticker.C:
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("the kubelet started anew: %w", err)
			}
		}
	}
}

func register(directory string) error {
	kubelet := "unix://" + filepath.Join(directory, "kubelet.sock")
	connection, err := grpc.NewClient(kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: socket, ResourceName: resource}
	_, err = api.NewRegistrationClient(connection).Register(ctx, request)
	return err
}

func main() {
	directory := flag.String("directory", "/var/lib/kubelet/device-plugins", "the kubelet's folder of plugins")
	flag.Parse()
	var devices []*api.Device
	for _, text := range flag.Args() {
		device, err := parse(text)
		if err != nil {
			log.Fatal(err)
		}
		devices = append(devices, device)
	}
	for {
		log.Print(run(*directory, devices))
		time.Sleep(time.Second)
	}
}
